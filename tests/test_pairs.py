"""The pair rule a stage is configured with: which block applies, what chance is, how the report's matrices look."""
import jax.numpy as jnp
import numpy as np
import pytest

from uscl import config as uscl_config
from uscl.stages.pairs import rule_of

BATCH = {"cine": jnp.repeat(jnp.arange(3), 2), "frame": jnp.array([0, 4, 1, 9, 0, 6]), "length": jnp.full(6, 10)}


def test_the_temporal_block_replaces_a_stages_own_rule_where_it_is_named():
    config = uscl_config.default()
    assert (rule_of(config, "encoder").kind, rule_of(config, "decoder").kind) == ("none", "none")
    config.temporal.stages = ("decoder",)
    assert (rule_of(config, "encoder").kind, rule_of(config, "decoder").kind) == ("none", "binary")


@pytest.mark.parametrize("denominator,candidates", [("all", 2 * 6 - 1), ("pair", 1 + 2 * 5)])
def test_chance_of_two_views_is_the_logarithm_of_the_candidates(denominator, candidates):
    """Own view against both views of the 5 other frames: ln(2N - 1), in either denominator."""
    config = uscl_config.default()
    config.encoder.pairs.update(negatives="all", denominator=denominator)
    pairs = rule_of(config, "encoder")
    z = jnp.asarray(np.random.default_rng(0).normal(size=(12, 4)), jnp.float32)
    loss, chance = pairs.loss_and_chance(z, *pairs.matrices(BATCH, views=2))
    assert float(chance) == pytest.approx(np.log(candidates), rel=1e-6) and float(loss) != pytest.approx(float(chance))


def test_chance_of_the_pairwise_loss_is_what_negatives_cost_at_distance_zero():
    """Each anchor: 1 positive at no cost, 8 frames of other cines at push^2 / 2 each, over 9 pairs."""
    config = uscl_config.default()
    config.encoder.pairs.update(loss="pairwise", push=0.5)
    pairs = rule_of(config, "encoder")
    _, chance = pairs.loss_and_chance(jnp.ones((12, 4)), *pairs.matrices(BATCH, views=2))
    assert float(chance) == pytest.approx(8 * 0.125 / 9, rel=1e-6)


def test_partition_spares_the_same_part_of_other_cines():
    """Frames 0 4 | 1 9 | 0 6 of 10 lie in parts 0 1 | 0 3 | 0 2: the three part-0 frames attract, all others repel."""
    config = uscl_config.default("paper")
    positive, negative = rule_of(config, "encoder").matrices(BATCH, views=1)
    same = np.zeros((6, 6))
    same[np.ix_([0, 2, 4], [0, 2, 4])] = 1
    np.testing.assert_array_equal(positive, same - np.diag(same.diagonal()))
    np.testing.assert_array_equal(negative, 1 - np.maximum(same, np.eye(6)))
