"""Tiny files of every format that is read, unbroken: what the fuzzing starts from."""

import csv
import io
import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import SimpleITK
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, RLELossless
from pydicom.uid import JPEGBaseline8Bit as JPEGBaseline

CODECS = {
    "mp4": ("mpeg4", "yuv420p"), "avi": ("mjpeg", "yuvj420p"), "mov": ("libx264", "yuv420p"), "mpeg": ("mpeg2video", "yuv420p"),
    "gif": ("gif", "rgb8"), "webm": ("libvpx", "yuv420p"), "wmv": ("wmv2", "yuv420p"),
}  # fmt: skip


def scene(frames=8, height=48, width=64):
    """uint8 [T, H, W, 3]: a bright spot moving over noise."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 120, (frames, height, width, 3), np.uint8)
    for t in range(frames):
        x[t, 10:30, 4 * t : 4 * t + 12] += 120
    return x


def write_dicom(path, syntax=ExplicitVRLittleEndian, space="MONOCHROME2", frames=8, bits=8):
    x = scene(frames)
    x = x if space in ("RGB", "YBR_FULL") else x[..., 0]
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if UID(syntax).is_compressed else syntax
    ds.SOPClassUID, ds.SOPInstanceUID, ds.PatientID = "1.2.840.10008.5.1.4.1.1.3.1", "1.2.3.4", "DOE-7731"
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    ds.Rows, ds.Columns, ds.NumberOfFrames = *x.shape[1:3], frames
    ds.SamplesPerPixel, ds.PhotometricInterpretation = (3 if x.ndim == 4 else 1), space
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = (8 if bits == 8 else 16), bits, bits - 1, 0
    ds.FrameTime, ds.FrameIncrementPointer = "33.3", 0x00181063
    if x.ndim == 4:
        ds.PlanarConfiguration = 0
    if space == "PALETTE COLOR":
        for name in ("Red", "Green", "Blue"):
            setattr(ds, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 16])
            setattr(ds, f"{name}PaletteColorLookupTableData", (np.arange(256, dtype="<u2") * 256).tobytes())
    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType = 1, 1
    region.RegionLocationMinX0, region.RegionLocationMinY0, region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 4, 4, 59, 43
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX = region.PhysicalDeltaY = 0.02
    ds.SequenceOfUltrasoundRegions = [region]
    if syntax == JPEGBaseline:
        ds.file_meta.TransferSyntaxUID = syntax
        parts = [io.BytesIO() for _ in x]
        for part, frame in zip(parts, x, strict=True):
            Image.fromarray(frame).save(part, "JPEG")
        ds.PixelData = encapsulate([p.getvalue() for p in parts])
        ds["PixelData"].is_undefined_length = True
    else:
        x = x if bits == 8 else x.astype(np.uint16) << (bits - 8)
        x = x.astype(">u2") if syntax == ExplicitVRBigEndian and bits > 8 else x
        ds.PixelData = x.tobytes()
        ds["PixelData"].VR = "OB" if bits == 8 else "OW"
        if UID(syntax).is_compressed:
            ds.compress(syntax, generate_instance_uid=False)
    ds.save_as(path, enforce_file_format=True)
    return path


def write_video(path, frames=8):
    codec, form = CODECS[path.suffix[1:]]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(25))
        stream.height, stream.width, stream.pix_fmt = 48, 64, form
        for x in scene(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(x, format="rgb24")))
        container.mux(stream.encode())
    return path


def write_seeds(folder: Path) -> dict[str, list[Path]]:
    """The unbroken files by kind: dicom, video, image, volume, mask, via, coco."""
    folder.mkdir(parents=True, exist_ok=True)
    dicom = [
        write_dicom(folder / "gray.dcm"), write_dicom(folder / "implicit.dcm", ImplicitVRLittleEndian, "RGB"),
        write_dicom(folder / "big.dcm", ExplicitVRBigEndian, bits=12), write_dicom(folder / "rle.dcm", RLELossless, "RGB"),
        write_dicom(folder / "palette.dcm", space="PALETTE COLOR"), write_dicom(folder / "jpeg.dcm", JPEGBaseline, "YBR_FULL"),
        write_dicom(folder / "j2k.dcm", JPEG2000Lossless), write_dicom(folder / "deep.dcm", RLELossless, bits=16),
    ]  # fmt: skip
    still = Image.fromarray(scene(1)[0])
    label = Image.fromarray((scene(1)[0, ..., 0] > 120).astype(np.uint8))
    images = [folder / f"still.{s}" for s in ("png", "jpg", "tif", "bmp")]
    for path in images:
        still.save(path)
    still.save(folder / "pages.tif", save_all=True, append_images=[still.convert("L")] * 3, compression="tiff_lzw")
    label.save(folder / "label.png")
    label.convert("P").save(folder / "palette.png")
    label.point(lambda v: 255 * v).convert("RGB").save(folder / "label.jpg")
    volumes = [folder / n for n in ("cine.nii", "cine.nii.gz", "cine.mha")]
    for path in volumes:
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(scene()[..., 0]), str(path))
    names = ("all_points_x", "all_points_y")
    ring = {"name": "polygon", **dict(zip(names, ([5, 40, 50, 9], [6, 8, 40, 30]), strict=True))}
    rows = [(f"{i}.png", 10, "{}", 2, i, json.dumps(ring), json.dumps({"Anatomy": c})) for i in range(3) for c in ("Capsule", "Cortex")]
    head = ["filename", "file_size", "file_attributes", "region_count", "region_id", "region_shape_attributes", "region_attributes"]
    with open(folder / "via.csv", "w", newline="") as file:
        csv.writer(file).writerows([head, *rows])
    rect = {"name": "rect", "x": 3, "y": 4, "width": 20, "height": 9}
    via = {
        f"{i}.png10": {"filename": f"{i}.png", "size": 10, "file_attributes": {}, "regions": [
            {"shape_attributes": s, "region_attributes": {"Anatomy": "Cortex"}} for s in (ring, rect)]} for i in range(3)
    }  # fmt: skip
    (folder / "via.json").write_text(json.dumps({"_via_settings": {}, "_via_attributes": {}, "_via_img_metadata": via}))
    (folder / "bare.json").write_text(json.dumps(via))
    drawn = ([[5, 6, 40, 8, 50, 40]], {"counts": [100, 50, 1000, 30, 1892], "size": [48, 64]}, {"counts": "d3T1<O1O0", "size": [48, 64]})
    coco = {
        "images": [{"id": i, "file_name": f"{i}.png", "height": 48, "width": 64} for i in range(3)],
        "categories": [{"id": 1, "name": "nerve"}, {"id": 2, "name": "vessel"}],
        "annotations": [{"id": i, "image_id": i, "category_id": 1 + i % 2, "segmentation": s, "iscrowd": int(i > 0), "area": 9}
                        for i, s in enumerate(drawn)],
    }  # fmt: skip
    (folder / "coco.json").write_text(json.dumps(coco))
    return {
        "dicom": dicom, "video": [write_video(folder / f"cine.{s}") for s in CODECS], "image": [*images, folder / "pages.tif"],
        "volume": volumes, "mask": [folder / n for n in ("label.png", "palette.png", "label.jpg")],
        "via": [folder / n for n in ("via.csv", "via.json", "bare.json")], "coco": [folder / "coco.json"],
    }  # fmt: skip
