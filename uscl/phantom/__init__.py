"""An ultrasound phantom in NumPy: cines with known labels, known speckle and no patient."""
