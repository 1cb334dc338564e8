"""Explainers by their names, with options as texts."""

import pytest

from causalcf.explain import named


@pytest.mark.parametrize("method", named.METHODS)
def test_every_method_is_known(method):
    explainer = named.read_method(method, [], 3, 7)
    assert type(explainer).__name__.lower() == method
    assert (explainer.batch, explainer.seed) == (3, 7)
    known = named.parameters(type(explainer))
    assert named.read_method(method, [f"steps={known['steps'].default}"], None, 0).steps == known["steps"].default


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["depth=30"], {"depth": 30}),
        (["scales=8, 10"], {"scales": (8, 10)}),
        (["scales=4"], {"scales": (4,)}),
        (["distance=0"], {"distance": 0}),
        (["loss=log-probability", "masking=2+"], {"loss": "log-probability", "masking": "2+"}),
        (["parity=published", "warmup=3"], {"parity": "published", "warmup": 3}),
        (["masking=2", "warmup=None"], {"masking": "2", "warmup": 30}),
    ],
)
def test_the_grammar_of_options(texts, expected):
    explainer = named.read_method("Fast-DiME", texts, None, 0)
    assert {name: getattr(explainer, name) for name in expected} == expected


def test_an_option_without_a_value_has_a_kind_nevertheless():
    for method, option, kind in (("fastdime", "warmup", "a whole number"), ("sce", "limit", "a number")):
        with pytest.raises(ValueError, match=f"--option {option}: expected {kind} or None, got 'abc'; the default is"):
            named.read_method(method, [f"{option}=abc"], None, 0)


@pytest.mark.parametrize("method", named.METHODS)
def test_defaults_are_of_the_kinds_that_are_expected(method):
    for name, entry in named.parameters(named.METHODS[method]).items():
        if name not in named.ELSEWHERE:
            text = ",".join(map(str, entry.default)) if isinstance(entry.default, tuple) else str(entry.default)
            assert named._value(name, text, entry) == entry.default
