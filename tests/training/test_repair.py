"""Repairing a classifier: what a teacher's answers become, and what a classifier is fine-tuned on."""

import pytest
import torch
from torch import nn

from causalcf.training.repair import UNKNOWN, relabelled, repaired

GREY = 0.75  # of every counterfactual pixel here, and of no row's


class Sides:
    """Images whose bright half is their class."""

    def __init__(self, n=120, seed=0):
        generator = torch.Generator().manual_seed(seed)
        side = torch.randint(2, (n,), generator=generator)
        image = 0.3 * torch.rand(n, 1, 4, 8, generator=generator)
        for row, k in enumerate(side.tolist()):
            image[row, :, :, 4 * k : 4 * k + 4] += 0.3
        self.content = {"image": image, "side": side}

    def __len__(self):
        return len(self.content["side"])

    def __getitem__(self, index):
        return {name: value[index] for name, value in self.content.items()}


class Linear(nn.Module):
    """A linear classifier, which remembers what it was trained on."""

    def __init__(self, outputs=1, column=False):
        super().__init__()
        torch.manual_seed(1)
        self.head, self.column = nn.Linear(32, outputs), column
        self.drop = nn.Dropout(0.1)
        self.seen = Seen()

    def forward(self, images):
        if self.training:
            self.seen.batches.append(images.detach().clone())
        logits = self.head(self.drop(images.flatten(1)))
        return logits if self.column or logits.shape[1] > 1 else logits[:, 0]


class Seen:
    """The same in all copies."""

    def __init__(self):
        self.batches = []

    def __deepcopy__(self, memo):
        return self


def grey(n=6):
    """Counterfactuals whose first pixel says which they are."""
    images = torch.full((n, 1, 4, 8), GREY)
    images[:, 0, 0, 0] = torch.arange(n) / 10
    return images


FAST = {"steps": 8, "batch": 10}


def test_a_label_stays_where_nothing_changed_and_becomes_the_target_where_that_is_seen():
    #         same, seen, same though the classifier was wrong, wrongly read before, a third class, unreadable, away
    label = torch.tensor([1, 1, 1, 1, 1, 1, 1])
    target = torch.tensor([0, 0, 1, 0, 0, 0, 1])
    before = torch.tensor([1, 1, 1, 0, 1, 1, 1])
    after = torch.tensor([1, 0, 1, 0, 2, -1, 0])
    assert relabelled(label, target, before, after).tolist() == [1, 0, 1, -1, -1, -1, -1]


def test_every_batch_holds_the_share_of_counterfactuals_and_none_that_is_left_out():
    network, labels = Linear(), torch.tensor([0, 1, UNKNOWN, 0, UNKNOWN, 1])
    repaired(network, Sides(), "side", grey(), labels, share=0.3, **FAST)
    assert len(network.seen.batches) == 8
    asked = set()
    for batch in network.seen.batches:
        counterfactual = batch[:, 0, 3, 7] == GREY
        assert (len(batch), int(counterfactual.sum())) == (10, 3)
        asked |= {round(10 * value) for value in batch[counterfactual, 0, 0, 0].tolist()}
    assert asked == {0, 1, 3, 5}


@pytest.mark.parametrize(("outputs", "column"), [(1, False), (1, True), (2, False), (3, False)])
def test_it_learns_the_teachers_labels_and_keeps_its_rows(outputs, column):
    images = torch.zeros(2, 1, 4, 8)
    images[0, :, :2], images[1, :, 2:] = 1.0, 1.0  # halves that no row has
    network = repaired(
        Linear(outputs, column), Sides(), "side", images, torch.tensor([1, 0]), steps=200, batch=32, rate=0.1
    )
    assert not network.training

    def said(images):
        logits = network(images)
        return (logits.reshape(len(images)) > 0).long() if outputs == 1 else logits.argmax(1)

    assert said(images).tolist() == [1, 0]
    test = Sides(200, seed=1)[:]
    assert (said(test["image"]) == test["side"]).double().mean() > 0.95


def test_the_seed_decides_and_nothing_else_is_touched():
    labels, found = torch.tensor([0, 1] * 3), {}
    for run, seed in {"first": 3, "again": 3, "other": 4}.items():
        network = Linear()
        weight = network.head.weight.clone()
        torch.manual_seed(len(run) + seed + len(found))  # which is not to matter
        state = torch.random.get_rng_state()
        found[run] = (repaired(network, Sides(), "side", grey(), labels, seed=seed, **FAST).head.weight, network.seen)
        assert torch.equal(network.head.weight, weight)
        assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(found["first"][0], found["again"][0])
    assert not torch.equal(found["first"][0], found["other"][0])
    counterfactuals = [[batch[5:, 0, 0, 0].tolist() for batch in seen.batches] for _, seen in found.values()]
    assert counterfactuals[0] == counterfactuals[1] != counterfactuals[2]


def test_rows_may_be_a_mapping():
    rows, labels = Sides(), torch.tensor([0, 1] * 3)
    one, other = (repaired(Linear(), given, "side", grey(), labels, **FAST) for given in (rows, rows.content))
    assert torch.equal(one.head.weight, other.head.weight)


L = torch.tensor([0, 1] * 3)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"share": 0.0}, ValueError, r"share=0.0.*write share=0.5"),
        ({"share": 0.01}, ValueError, "both kinds of images"),
        ({"steps": 0}, ValueError, "steps=0"),
        ({"rate": -1.0}, ValueError, "rate=-1.0"),
        ({"classifier": lambda images: images.mean((1, 2, 3))}, TypeError, "expected a torch module.*got function"),
        ({"label": "smile"}, ValueError, "no column 'smile'; the rows have image, side"),
        ({"label": "image"}, ValueError, "image: expected int64 classes"),
        ({"images": grey()[..., :5]}, ValueError, r"\(B, 1, 4, 8\), as the rows have.*\(6, 1, 4, 5\)"),
        ({"images": 255 * grey()}, ValueError, r"values in \[0, 1\]; divide"),
        ({"rows": {"picture": grey(), "side": L}}, ValueError, "no column 'image'; the rows have picture, side"),
        ({"rows": {"image": (255 * grey()).byte(), "side": L}}, ValueError, "image: expected values from 0 to 1"),
        ({"rows": {"image": 255 * grey(), "side": L}}, ValueError, "values from 0 to 1, .* write image / 255"),
        ({"labels": L[:4]}, ValueError, r"one for each of 6 images, got torch.int64 of shape \(4,\)"),
        ({"labels": L.double()}, ValueError, "expected int64 classes"),
        ({"labels": 2 * L}, ValueError, "classes 0 to 1, or -1 to leave an image out, got 0 to 2"),
        ({"labels": torch.full_like(L, UNKNOWN)}, ValueError, "all 6 are -1.*explain more rows"),
    ],
)
def test_what_does_not_fit_is_refused(changed, error, message):
    given = {"classifier": Linear(), "rows": Sides(), "label": "side", "images": grey(), "labels": L}
    with pytest.raises(error, match=message):
        repaired(**given | FAST | changed)


def test_a_training_that_diverges_says_at_which_step():
    network = Linear()
    network.head.weight.data *= float("inf")
    with pytest.raises(FloatingPointError, match=r"side: the loss became .* at step 0; lower rate"):
        repaired(network, Sides(), "side", grey(), L, **FAST)
