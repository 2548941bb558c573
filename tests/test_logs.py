"""The log: what is written, what is forgotten on a resume, and what a person sees."""
import io
import json
import logging
import math
import struct
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from uscl.train import logs
from uscl.train.logs import Log, environment, write_json
from uscl.train.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def events(folder):
    """Events of a folder's files, from the records' layout: length, its checksum, the event, its checksum."""
    for file in sorted(folder.iterdir()):
        content, place = file.read_bytes(), 0
        while place < len(content):
            (length,) = struct.unpack("<Q", content[place : place + 8])
            yield event_pb2.Event.FromString(content[place + 12 : place + 12 + length])
            place += 16 + length


def test_metrics_are_one_object_a_line(tmp_path):
    with Log(tmp_path) as log:
        log.metrics("encoder", 10, {"noise": jnp.float32(0.1), "loss": np.float32(1 / 3), "chance": 4})
        log.metrics("encoder", np.int32(20), {"loss": 1e-9})
    assert (tmp_path / "metrics.jsonl").read_text() == (
        '{"stage": "encoder", "step": 10, "loss": 0.33333334, "chance": 4.0, "noise": 0.1}\n'
        '{"stage": "encoder", "step": 20, "loss": 1e-09}\n'
    )


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_metrics_are_numbers(tmp_path, value):
    with Log(tmp_path) as log, pytest.raises(ValueError):
        log.metrics("encoder", 10, {"loss": value})
    assert not (tmp_path / "metrics.jsonl").exists()


def test_float32_survives_its_line(tmp_path):
    values = np.random.default_rng(0).normal(size=200).astype(np.float32) * np.float32(10.0) ** np.arange(-20, 20, 0.2, np.float32)
    with Log(tmp_path) as log:
        for step, value in enumerate(values):
            log.metrics("s", step, {"loss": value})
    read = [json.loads(line)["loss"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    np.testing.assert_array_equal(np.array(read, np.float32), values)


def test_resume_forgets_later_lines_of_the_stage_and_a_torn_one(tmp_path):
    def line(stage, step):
        return json.dumps({"stage": stage, "step": step, "loss": 1.0}) + "\n"

    path = tmp_path / "metrics.jsonl"
    kept = line("encoder", 10) + line("encoder", 20) + line("decoder", 10)
    path.write_text(kept + line("decoder", 20) + line("decoder", 30) + line("encoder", 30) + '{"stage": "encoder", "st')
    with Log(tmp_path) as log:
        log.resume("decoder", 10)
        assert path.read_text() == kept + line("encoder", 30)
        log.resume("encoder", 20)
        assert path.read_text() == kept
        path.write_text(kept + line("encoder", 15).rstrip("\n"))  # whole, but for its end
        log.resume("encoder", 20)
        log.metrics("encoder", 30, {"loss": 1.0})
    assert path.read_text() == kept + line("encoder", 30)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["metrics.jsonl", "run.log", "tensorboard"]


def test_tensorboard_curves_and_what_a_resume_hides(tmp_path):
    for start in (0, 10):
        with Log(tmp_path) as log:
            log.resume("encoder", start)
            log.metrics("encoder", start + 10, {"loss": start + 0.5})
            log.metrics("decoder", 5, {"dice": 0.25})
    told = list(events(tmp_path / "tensorboard" / "encoder"))
    curve = [(event.step, value.tag, value.simple_value) for event in told for value in event.summary.value]
    assert curve == [(10, "loss", 0.5), (20, "loss", 10.5)]
    assert [event.step for event in told if event.session_log.status == event_pb2.SessionLog.START] == [1, 11]
    curve = [(event.step, v.tag, v.simple_value) for event in events(tmp_path / "tensorboard" / "decoder") for v in event.summary.value]
    assert curve == [(5, "dice", 0.25)] * 2
    assert "tensorflow" not in sys.modules


def test_lines_reach_the_file_and_the_screen_once(tmp_path, capsys):
    root = logging.StreamHandler(sys.stdout)
    logging.getLogger().addHandler(root)
    try:
        with Log(tmp_path) as log:
            log.info("first")
            log.info("file alone", screen=False)
            logging.getLogger("uscl.train.checkpoint").warning("from below")
    finally:
        logging.getLogger().removeHandler(root)
    told = [line.split("  ", 1)[1] for line in (tmp_path / "run.log").read_text().splitlines()]
    assert told == ["first", "file alone", "from below"]
    out, err = capsys.readouterr()
    assert out == "" and [line.split("  ", 1)[1] for line in err.splitlines()] == ["first", "from below"]
    with Log(tmp_path) as log:  # a second command goes on in the same file, the first one's handlers are gone
        log.info("second")
    assert (tmp_path / "run.log").read_text().count("second") == 1
    logger = logging.getLogger("uscl")
    assert logger.handlers == [] and logger.propagate


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_progress_by_hand():
    clock, told = Clock(), []
    progress = Progress("encoder", 10, 20, tell=lambda text, screen: told.append((text, screen)), bar=False, every=10.0, clock=clock)
    clock.now += 50  # compilation: no part of any speed
    progress.update({"loss": 5.0}, images=64, waited=30.0)
    assert told == []
    for _ in range(3):  # 3 updates of 4 s, 1 s each of it waiting: 3 * 64 / 12 s = 16 images/s, 25 %, 6 to go: 24 s
        clock.now += 4
        progress.update({"loss": 0.123456, "chance": 4.15888}, images=64, waited=1.0)
    assert told == [("encoder 14/20  loss 0.1235 (chance 4.159)  16 images/s  data 25%  ETA 0:00:24", True)]
    for _ in range(6):
        clock.now += 1
        progress.update({"loss": 0.1}, images=64, waited=0.0)
    assert told[1:] == [("encoder 20/20  loss 0.1  32 images/s  data 17%  ETA 0:00:00", True)]  # 9 * 64 / 18 s, 3 / 18


def test_speeds_slow_and_fast():
    clock = Clock()
    for images, shown in ((1234 * 4, "  1234 images/s"), (2, "  0.50 images/s")):
        progress = Progress("encoder", 0, 20, tell=lambda *_, **__: None, bar=False, clock=clock)
        for _ in range(2):
            clock.now += 4
            progress.update({"loss": 1.0}, images=images, waited=0.0)
        assert shown in progress.text({"loss": 1.0})


@pytest.mark.parametrize("stream,bar,drawn", [(Terminal(), True, True), (io.StringIO(), True, False), (Terminal(), False, False)])
def test_bar_on_a_terminal_and_lines_elsewhere(tmp_path, monkeypatch, stream, bar, drawn):
    monkeypatch.setattr(sys, "stderr", stream)
    with Log(tmp_path) as log, log.training("toy", 0, 2, bar=bar) as progress:
        for _ in range(2):
            progress.update({"loss": 0.5, "chance": 2.0}, images=8, waited=0.0)
    seen = stream.getvalue()
    assert "loss 0.5 (chance 2)" in seen and ("toy 100%|####" in seen or "toy 100%|█" in seen) == drawn
    assert ("toy 2/2" in seen) == (not drawn)
    lines = (tmp_path / "run.log").read_text()
    assert "toy 2/2  loss 0.5 (chance 2)" in lines and "images/s" in lines


def test_progress_of_anything(tmp_path, capsys):
    with Log(tmp_path) as log:
        assert list(log.progress(iter("abc"), 3, "letters")) == ["a", "b", "c"]
    assert "letters: 3 done" in (tmp_path / "run.log").read_text() and "letters: 3 done" in capsys.readouterr().err


def test_json_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    strange = [np.int64(3), math.nan, np.array([1.0, np.inf])]
    write_json(path, {"a": np.float32(0.5), 1: strange, "p": tmp_path, "j": jnp.ones(2), "n": None})
    expected = {"a": 0.5, "1": [3, None, [1.0, None]], "p": str(tmp_path), "j": [1.0, 1.0], "n": None}
    assert json.loads(path.read_text()) == expected and path.read_text().endswith("}\n")

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(logs.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_json(path, {"b": 1})
    assert json.loads(path.read_text()) == expected


def test_environment_names_what_a_result_depends_on(tmp_path):
    found = environment()
    assert found["devices"]["count"] == 4 and found["devices"]["platform"] == "cpu" and found["argv"] == sys.argv
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["packages"]["numpy"] == np.__version__ and found["packages"]["uscl"]
    write_json(tmp_path / "environment.json", found)
    assert json.loads((tmp_path / "environment.json").read_text()) == found
