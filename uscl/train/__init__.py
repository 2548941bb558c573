"""The training machinery: it is given functions and arrays, and knows no loss, no model and no stage by name."""
