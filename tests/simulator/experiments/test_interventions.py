"""Interventions do what they say to a network and nothing else."""

from __future__ import annotations

import re

import pytest
import torch

import emergence_stats as es
from simulator.experiments.interventions import (
    add_dropout,
    copy_parameters,
    head_masks,
    head_weights,
    hold_heads,
    transplant_head,
)
from simulator.network.model import ParticleTransformer


def network(seed, **sizes):
    torch.manual_seed(seed)
    model = ParticleTransformer(**{"width": 16, "depth": 2, "num_heads": 2, **sizes})
    # Layer norms as training leaves them, with scales and shifts.
    with torch.no_grad():
        for block in model.blocks:
            block.attention_norm.weight.uniform_(0.5, 1.5)
            block.attention_norm.bias.normal_(0.0, 0.3)
    return model


STATES = torch.rand(3, 5, 4, generator=torch.Generator().manual_seed(0))


def test_a_transplanted_head_does_the_same_on_the_same_stream():
    source, target = network(0), network(1)
    transplant_head(target, head_weights(source, (0, 1)), (0, 0))
    stream = torch.randn(4, 5, 16)
    _, theirs, their_output = source.blocks[0](stream)
    _, ours, our_output = target.blocks[0](stream)
    torch.testing.assert_close(ours[:, 0], theirs[:, 1], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(our_output[:, 0], their_output[:, 1], rtol=1e-4, atol=1e-5)
    # The other head is as it was.
    untouched = network(1)
    _, before, _ = untouched.blocks[0](stream)
    assert torch.equal(ours[:, 1], before[:, 1])
    for one, other in zip(head_weights(target, (0, 0)), head_weights(source, (0, 1)), strict=True):
        torch.testing.assert_close(one, other)


def test_parameters_are_taken_over_and_scales_are_not():
    source, fresh = network(0), network(1)
    fresh.set_scales(STATES, STATES)
    scale = fresh.input_scale.clone()
    copy_parameters(fresh, source)
    assert torch.equal(fresh.input_scale, scale)
    source.load_state_dict(fresh.state_dict())
    assert torch.equal(fresh(STATES), source(STATES))
    with pytest.raises(es.InputError, match="does not fit"):
        copy_parameters(network(0, width=32), source)


def test_dropout_is_on_while_training_only():
    model = network(0)
    plain = model(STATES)
    handles = add_dropout(model, 0.4)
    model.train()
    assert not torch.equal(model(STATES), plain)
    model.eval()
    assert torch.equal(model(STATES), plain)
    model.train()
    for handle in handles:
        handle.remove()
    assert torch.equal(model(STATES), plain)


def test_masks_of_all_heads_share_a_layer_out():
    model = network(0)
    masks = [head_masks(model, (1, head)) for head in range(2)]
    for name in masks[0]:
        together = torch.stack([mask[name] for mask in masks]).sum(0)
        assert (together == 1).all()
        assert dict(model.named_parameters())[name].shape == together.shape


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: head_weights(network(0), (2, 0)), "head: (2, 0)"),
        (lambda: hold_heads(network(0), [(0, 5)]), "2 layers"),
        (lambda: transplant_head(network(0), head_weights(network(1, width=32), (0, 0)), (0, 0)),
         "does not fit"),
        (lambda: add_dropout(network(0), 1.0), "probability: 1.0"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, message):
    with pytest.raises(es.InputError, match=re.escape(message)):
        call()
