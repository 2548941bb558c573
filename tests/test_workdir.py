"""A run's folder is one experiment and one process's at a time; what may change between two starts of it; a disk that is full."""
import errno
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from uscl import config as uscl_config
from uscl.config.difference import Facts, difference, refused
from uscl.stages import experiment
from uscl.train import lock
from uscl.types import UserError

ROOT = Path(__file__).parent.parent


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# --- one process at a time ---

HOLD = "import sys, time; from uscl.train import lock\nwith lock.hold(sys.argv[1]):\n print('held', flush=True); time.sleep(60)"


def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "run"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=rf"{tmp_path / 'run'}: in use by process {holder.pid} on \S+ since 20\d\d-") as told:
            with lock.hold(tmp_path / "run"):
                pytest.fail("two processes hold one folder")
        assert "\n" not in str(told.value)
        config = uscl_config.default()
        with pytest.raises(UserError, match=f"in use by process {holder.pid}"):
            experiment.run(config, tmp_path / "run")
        assert sorted(entry.name for entry in (tmp_path / "run").iterdir()) == [".lock"]  # whoever is refused touches nothing
    finally:
        holder.kill()
        holder.wait()
    with lock.hold(tmp_path / "run") as path:  # SIGKILL left the file, and the kernel let go
        assert json.loads(path.read_text())["pid"] == os.getpid()
    with lock.hold(tmp_path / "run"):
        pass


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch, caplog):
    def unsupported(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", unsupported)
    with lock.hold(tmp_path):
        assert "knows no locks" in caplog.text
    monkeypatch.setattr(lock.fcntl, "flock", full)
    with pytest.raises(OSError, match="No space"), lock.hold(tmp_path):
        pass


# --- a changed configuration ---

OLD = {"seed": 0, "encoder.steps": 100, "encoder.schedule": "constant", "decoder.steps": 50, "decoder.schedule": "cosine",
       "data.store": "/a", "log.every": 10}  # fmt: skip
BEFORE = {"finetune.network": "unet", "finetune.batch": 16, "scale": "quick", "saliency.hidden": "blur"}  # done without the knob
ORDER = ("encoder", "decoder", "finetune")


@pytest.mark.parametrize(
    "changes,facts,keys",
    [
        ({}, Facts(), []),
        ({"log.every": 3}, Facts(), []),
        ({"log.every": 3, "seed": 1}, Facts(), ["seed"]),
        ({"encoder.steps": 200}, Facts(ORDER, {"encoder"}), []),
        ({"encoder.steps": 99}, Facts(ORDER, {"encoder"}), ["encoder.steps"]),
        ({"encoder.steps": 200}, Facts(ORDER, {"encoder", "finetune"}), ["encoder.steps"]),
        ({"encoder.steps": 200, "encoder.schedule": "cosine"}, Facts(ORDER), ["encoder.schedule", "encoder.steps"]),
        ({"decoder.steps": 60, "encoder.steps": 300}, Facts(ORDER, {"encoder"}), ["decoder.steps"]),
        ({"decoder.steps": 60, "decoder.schedule": "constant"}, Facts(ORDER), ["decoder.schedule"]),
        ({"data.store": "/b"}, Facts(same_data=lambda: True), []),
        ({"data.store": "/b"}, Facts(same_data=lambda: False), ["data.store"]),
        ({"new": 1}, Facts(), ["new"]),
        # knobs that are younger than the run: it did as their defaults at its scale say, here at quick
        ({"finetune.network": "unet", "classify.negative": ["normal", "regular"], "finetune.batch": 16}, Facts(), []),
        ({"saliency.hidden": "blur"}, Facts(), []),
        ({"saliency.hidden": "negative"}, Facts(), ["saliency.hidden"]),
        ({"finetune.network": "resnet_fpn", "finetune.batch": 20}, Facts(), ["finetune.batch", "finetune.network"]),
        ({"scale": "paper", "finetune.batch": 16}, Facts(), ["scale"]),
    ],
)
def test_what_a_run_can_take(changes, facts, keys):
    new = OLD | changes
    assert [key for key, _, _ in difference(OLD, new)] == sorted(changes)
    assert [change.key for change in refused(OLD, new, facts)] == keys
    for change in refused(OLD, new, facts):
        was = repr((BEFORE | OLD).get(change.key, "absent"))
        assert str(change).startswith(f"config.{change.key} was {was} here and is {new[change.key]!r} now")


def begun_run(folder, config, checksum):
    experiment.keep_config(folder, config)
    (folder / "encoder" / "checkpoints" / "3").mkdir(parents=True)
    (folder / "environment.json").write_text(json.dumps({"store": {"path": "/old", "checksum": checksum}}))


def test_a_changed_config_is_refused_with_every_difference(tmp_path):
    config = uscl_config.default()
    begun_run(tmp_path, config, "abc")
    kept = (tmp_path / "config.json").read_bytes()
    changed = uscl_config.default()
    changed.seed, changed.encoder.steps, changed.model.width = 7, 81, (1, 2, 3, 4, 5, 6)
    with pytest.raises(UserError) as told:
        experiment.keep_config(tmp_path, changed)
    for part in (f"{tmp_path / 'config.json'}: ", "config.encoder.steps was 80 here and is 81 now", "config.seed was 0 here and is 7 now",
                 "config.model.width was [16, 32, 64, 128, 128, 128] here and is [1, 2, 3, 4, 5, 6] now", "--workdir"):  # fmt: skip
        assert part in str(told.value)
    assert "\n" not in str(told.value) and (tmp_path / "config.json").read_bytes() == kept


def test_a_store_may_move_but_not_change(tmp_path, monkeypatch):
    config = uscl_config.default()
    config.data.store = "/old"
    begun_run(tmp_path, config, "abc")

    class Fake:
        path = "/new"
        checksum = "abc"

        @classmethod
        def open(cls, path):
            return cls()

        def patients(self, part):
            return []

    monkeypatch.setattr(experiment, "Store", Fake)
    moved = uscl_config.default()
    moved.data.store = "/new"
    experiment.keep_config(tmp_path, moved)
    assert json.loads((tmp_path / "config.json").read_text())["data"]["store"] == "/new"
    experiment.keep_data(tmp_path, Fake())
    told = json.loads((tmp_path / "environment.json").read_text())
    nobody = hashlib.sha256(b"").hexdigest()[:16]
    assert told["store"] == {"path": "/new", "checksum": "abc", "test": nobody} and "python" in told
    monkeypatch.setattr(Fake, "checksum", "def")
    with pytest.raises(UserError, match="another store, by its checksum"):
        experiment.keep_config(tmp_path, config)
    with pytest.raises(UserError, match="/new: the checksum of the store is def, and was abc"):
        experiment.keep_data(tmp_path, Fake())
    # A run that never came so far as to open a store, its path being wrong, may be given the right one.
    experiment.keep_config(tmp_path / "other", config)
    experiment.keep_config(tmp_path / "other", moved)


def test_a_full_disk_met_elsewhere_is_one_sentence_too(tmp_path):
    with pytest.raises(UserError, match=f"{tmp_path}: No space left on device; make room"), experiment.disk_told(tmp_path):
        full()
    with pytest.raises(PermissionError), experiment.disk_told(tmp_path):
        raise PermissionError(errno.EACCES, "no")
