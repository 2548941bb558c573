"""Videos whose frames are known, written for the tests of their reader."""

import av


def write_video(path, frames, *, codec="ffv1", pixels="gray", rate=25, aspect=None, options=None, container="", codec_options=None):
    """uint8 [T, H, W] or [T, H, W, 3], or frames of PyAV."""
    with av.open(str(path), "w", format=container or None, options=options or {}) as file:
        stream = file.add_stream(codec, rate=rate, options=codec_options or {})
        height, width = frames[0].shape[:2] if hasattr(frames[0], "shape") else (frames[0].height, frames[0].width)
        stream.height, stream.width, stream.pix_fmt = height, width, pixels
        stream.codec_context.bit_rate = 4_000_000
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        for frame in frames:
            if not isinstance(frame, av.VideoFrame):
                frame = av.VideoFrame.from_ndarray(frame, format="gray" if frame.ndim == 2 else "rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path
