"""The loop: the updates and nothing else, what is told and saved when, how it ends and goes on."""
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toy import SCORES, SETTING, assert_same, drive, lines, make_toy, score, toy_batch, train

from uscl.train import loop
from uscl.train.checkpoint import Checkpoints
from uscl.train.interrupt import Interrupted
from uscl.train.logs import Log
from uscl.types import UserError


def test_loop_is_the_steps_and_nothing_else(tmp_path):
    here, new, step = make_toy()
    expected, told = drive(here, new, step, 20)
    last, best = train(tmp_path, toy=(here, new, step))
    assert_same(last, expected)
    assert best is None and not new.params["head"]["kernel"].is_deleted()
    assert step._cache_size() == 1
    assert [line["step"] for line in lines(tmp_path)] == [3, 6, 9, 12, 15, 18, 20]
    for line in lines(tmp_path):
        assert list(line)[:3] == ["stage", "step", "loss"] and line.pop("stage") == "toy"
        assert {k: np.float32(v) for k, v in told[line.pop("step") - 1].items()} == {k: np.float32(v) for k, v in line.items()}
    assert Checkpoints(tmp_path / "toy" / "checkpoints").steps() == [16, 20]


# Between everything; where it is validated; where it is saved anyway.
@pytest.mark.parametrize("number,status,at", [(signal.SIGINT, 130, 7), (signal.SIGTERM, 143, 10), (signal.SIGTERM, 143, 16)])
def test_interrupted_and_continued_is_undisturbed_bit_for_bit(tmp_path, number, status, at):
    toy = make_toy()
    whole = train(tmp_path / "whole", toy=toy, validate=score, validate_every=5)

    def disturb(now):
        if now == at:
            os.kill(os.getpid(), number)

    handler = signal.getsignal(number)
    with pytest.raises(Interrupted) as stop:
        train(tmp_path / "cut", toy=toy, validate=score, validate_every=5, before=disturb)
    assert stop.value.code == status and stop.value.signal == number and signal.getsignal(number) is handler
    assert Checkpoints(tmp_path / "cut" / "toy" / "checkpoints").latest() == at
    said = (tmp_path / "cut" / "run.log").read_text()
    assert f"{signal.Signals(number).name} after update {at} of 20; saved in {tmp_path / 'cut' / 'toy' / 'checkpoints' / str(at)}" in said
    seen = []
    rest = train(tmp_path / "cut", toy=make_toy(), validate=score, validate_every=5, before=seen.append)
    assert seen == list(range(at + 1, 21))
    assert_same(rest, whole)
    assert (tmp_path / "cut" / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()


def test_crash_goes_on_from_the_checkpoint_and_rewrites_what_came_after(tmp_path):
    toy = make_toy()
    whole = train(tmp_path / "whole", toy=toy)

    def crash(now):
        if now == 15:
            raise OSError("disk on fire")

    with pytest.raises(OSError, match="disk on fire"):
        train(tmp_path / "cut", toy=toy, before=crash)
    assert [line["step"] for line in lines(tmp_path / "cut")] == [3, 6, 9, 12]
    assert_same(train(tmp_path / "cut", toy=toy), whole)
    assert (tmp_path / "cut" / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()


def test_best_is_the_first_highest_and_survives(tmp_path):
    toy, seen = make_toy(), {}

    def look(now):
        seen[int(now.step)] = jax.tree.map(np.array, now.params)
        return jnp.tanh(np.float32(score(now)))  # a validation may move data as it likes

    last, best = train(tmp_path, toy=toy, validate=look, validate_every=5)
    assert list(seen) == [5, 10, 15, 20] and int(best.step) == 10
    assert_same(best.params, seen[10])
    assert_same(last.params, seen[20])
    told = {line["step"]: line for line in lines(tmp_path)}
    assert list(told) == [3, 5, 6, 9, 10, 12, 15, 18, 20]
    for number, line in told.items():
        assert "loss" in line and ("validation" in line) == (number in SCORES)
    assert [told[n]["best"] for n in SCORES] == pytest.approx(np.tanh([0.3, 0.7, 0.7, 0.7]))
    with Log(tmp_path) as log:  # a finished stage is read, not run
        again = loop.run(
            toy[1], toy[2], lambda start: pytest.fail("batches of a finished stage"), log=log, mesh=toy[0],
            checkpoints=Checkpoints(tmp_path / "toy" / "checkpoints"), validate=look, validate_every=5, **SETTING,
        )  # fmt: skip
    assert_same(again, (last, best))
    assert len(lines(tmp_path)) == 9 and len(seen) == 4


def test_validation_at_the_end_alone(tmp_path):
    _, best = train(tmp_path, validate=score)
    assert int(best.step) == 20 and [line["step"] for line in lines(tmp_path) if "validation" in line] == [20]


def test_nan_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path):
    def poisoned(number):
        batch = toy_batch(number)
        return {**batch, "y": batch["y"] * (np.nan if number + 1 == 11 else 1)}

    with pytest.raises(FloatingPointError, match=r"toy: \w+ is nan at update 11; the checkpoint of update 8 is kept in .*checkpoints"):
        train(tmp_path, batch=poisoned)
    assert Checkpoints(tmp_path / "toy" / "checkpoints").latest() == 8
    assert [line["step"] for line in lines(tmp_path)] == [3, 6, 9]


def test_nan_is_never_saved(tmp_path):
    def poisoned(number):
        batch = toy_batch(number)
        return {**batch, "y": batch["y"] * (np.nan if number + 1 == 8 else 1)}  # the very update that is saved

    with pytest.raises(FloatingPointError, match="at update 8; no checkpoint was saved before"):
        train(tmp_path, batch=poisoned)
    infinite = optax.sgd(lambda count: jnp.where(count == 7, jnp.inf, 1e-3))  # update 8: finite loss, infinite weights
    with pytest.raises(FloatingPointError, match="a parameter is -?(inf|nan) at update 8"):
        train(tmp_path, toy=make_toy(optimizer=infinite))
    assert Checkpoints(tmp_path / "toy" / "checkpoints").steps() == []
    with pytest.raises(FloatingPointError, match="the validation score is nan at update 5"):
        train(tmp_path, validate=lambda now: float("nan"), validate_every=5)


def test_a_batch_of_another_shape_is_refused(tmp_path):
    def ragged(number):
        return {k: v[:4] if number == 4 else v for k, v in toy_batch(number).items()}

    with pytest.raises(RuntimeError, match="toy: update 5 was compiled anew"):
        train(tmp_path, batch=ragged)


def test_updates_may_not_move_data_behind_the_loops_back(tmp_path):
    here, new, step = make_toy()

    def leaking(now, batch):
        return step(now, {**batch, "y": np.zeros(batch["y"].shape, np.float32)})  # never put on the mesh

    leaking._cache_size = step._cache_size
    with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        train(tmp_path, toy=(here, new, leaking))


def test_batches_may_be_a_context_and_may_not_end_early(tmp_path):
    closed = []

    class Source:
        def __init__(self, start):
            self.rest = iter([toy_batch(n) for n in range(start, 4)])

        def __enter__(self):
            return self.rest

        def __exit__(self, *_):
            closed.append(True)

    here, new, step = make_toy()
    with Log(tmp_path) as log:
        common = {**SETTING, "log": log, "checkpoints": Checkpoints(tmp_path / "c"), "mesh": here}
        with pytest.raises(ValueError, match="toy: the batches ended before update 5 of 20"):
            loop.run(new, step, Source, **common)
        loop.run(new, step, Source, **{**common, "steps": 4})
    assert closed == [True, True]


def test_a_folder_that_went_further_is_refused(tmp_path):
    train(tmp_path)
    with pytest.raises(UserError, match="checkpoints/20: 20 updates are done, the toy stage is set to 12"):
        train(tmp_path, steps=12)
