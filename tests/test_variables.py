import json

import numpy as np
import pytest
import torch

from causalcf.variables import Binary, Categorical, Continuous, Image, variable_from_config

VARIABLES = [
    (Continuous(lower=0.0, upper=255.0, unit="grey"), torch.tensor([0.0, 12.5, 255.0])),
    (Continuous(), torch.tensor([-1e30, 0.0, 1e30])),
    (Binary(), torch.tensor([0, 1, 1])),
    (Categorical(10), torch.tensor([0, 9, 3])),
    (Binary(names=("F", "M")), torch.tensor([0, 1, 1])),
    (Categorical(names=["none", "circle", "triangle"]), torch.tensor([0, 2, 1])),
    (Image(3, 4, 5), torch.rand(3, 3, 4, 5)),
]
IDS = [repr(variable) for variable, _ in VARIABLES]


@pytest.mark.parametrize(("variable", "value"), VARIABLES, ids=IDS)
def test_valid_values_come_back_as_the_same_object(variable, value):
    assert variable.check("x", value) is value
    assert variable.check("x", value, rows=3) is value
    assert value.dtype == variable.dtype
    assert value.shape == (3, *variable.shape)


@pytest.mark.parametrize(("variable", "value"), VARIABLES, ids=IDS)
def test_float64_is_kept_and_only_where_it_belongs(variable, value):
    if variable.dtype == torch.float32:
        assert variable.check("x", value.double()).dtype == torch.float64
    else:
        with pytest.raises(TypeError, match=r"write x\.long\(\)"):
            variable.check("x", value.double())


@pytest.mark.parametrize(("variable", "value"), VARIABLES, ids=IDS)
def test_config_survives_json(variable, value):
    config = json.loads(json.dumps(variable.to_config()))
    assert variable_from_config(config) == variable
    assert hash(variable_from_config(config)) == hash(variable)


@pytest.mark.parametrize(("variable", "value"), VARIABLES, ids=IDS)
@pytest.mark.parametrize(
    ("spoil", "error", "pattern"),
    [
        (lambda x: x.numpy(), TypeError, r"x: expected a tensor .* got ndarray; write torch\.as_tensor"),
        (lambda x: x.bool(), TypeError, r"x: expected .* got torch\.bool; write x\."),
        (lambda x: x.int(), TypeError, r"x: expected .* got torch\.int32; write x\."),
        (lambda x: x.half(), TypeError, r"x: expected .* got torch\.float16; write x\."),
        (lambda x: x[:0], ValueError, r"x: expected at least one row"),
        (lambda x: x[0], ValueError, r"x: expected shape \(B.* write x\."),
        (lambda x: x.unsqueeze(0), ValueError, r"x: expected shape \(B.* got \(1, 3"),
        (lambda x: x[:2], ValueError, r"x: expected 3 rows, got 2"),
    ],
    ids=["array", "bool", "int32", "half", "empty", "unbatched", "extra axis", "rows"],
)
def test_the_wrong_kind_of_tensor_is_refused(variable, value, spoil, error, pattern):
    with pytest.raises(error, match=pattern):
        variable.check("x", spoil(value), rows=3)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        (
            Continuous(lower=0.0, unit="px"),
            torch.tensor([1.0, 2.0, 3.0, -1.2, -5.0]),
            "x: expected values >= 0.0 px, got -1.2 in row 3 (and in 1 more row); ",
        ),
        (Continuous(upper=1.5), torch.tensor([1.5, 1.6]), "x: expected values <= 1.5, got 1.6 in row 1; "),
        (
            Continuous(),
            torch.tensor([0.0, float("nan")]),
            "x: expected finite values, got nan in row 1; drop",
        ),
        (
            Continuous(lower=0.0),
            torch.tensor([float("-inf")], dtype=torch.float64),
            "x: expected finite values, got -inf in row 0; ",
        ),
        (Binary(), torch.tensor([0, 2]), "x: expected classes 0 to 1, got 2 in row 1; count from 0"),
        (Categorical(3), torch.tensor([0, -1]), "x: expected classes 0 to 2, got -1 in row 1; count from 0"),
        (Categorical(10), torch.tensor([1, 10]), "x: expected classes 0 to 9, got 10 in row 1; "),
        (
            Image(1, 1, 2),
            torch.tensor([[[[0.0, 1.0]]], [[[7.0, 255.0]]]]),
            "x: expected values from 0 to 1, got 7.0 in row 1; for grey levels of 0 to 255 write x / 255",
        ),
        (
            Image(1, 1, 2),
            torch.tensor([[[[-1.0, 1.0]]]]),
            "x: expected values from 0 to 1, got -1.0 in row 0; for values of -1 to 1 write (x + 1) / 2",
        ),
        (
            Image(1, 1, 2),
            torch.tensor([[[[0.0, 0.0]]], [[[0.5, float("nan")]]]]),
            "x: expected finite values, got nan in row 1; drop or fill the rows",
        ),
        (
            Image(1, 28, 28),
            torch.rand(4, 28, 28),
            "x: expected shape (B, 1, 28, 28), got (4, 28, 28); write x.unsqueeze(1)",
        ),
        (
            Image(3, 8, 6),
            torch.rand(4, 8, 6, 3),
            "x: expected shape (B, 3, 8, 6), got (4, 8, 6, 3); write x.permute(0, 3, 1, 2)",
        ),
        (
            Image(1, 28, 28),
            torch.rand(4, 1, 9, 9),
            "x: expected shape (B, 1, 28, 28), got (4, 1, 9, 9); resize the images, or declare Image(",
        ),
        (
            Image(1, 28, 28),
            torch.rand(4, 3, 28, 28),
            "x: expected shape (B, 1, 28, 28), got (4, 3, 28, 28); give 1 channel, or declare Image(3, 28, 28)",
        ),
        (Continuous(), torch.rand(4, 1), "x: expected shape (B,), got (4, 1); write x.squeeze(1)"),
        (Continuous(), torch.tensor(1.0), "x: expected shape (B,), got (); write x.reshape(1)"),
    ],
)
def test_errors_say_what_was_expected_what_came_and_what_to_write(variable, value, message):
    with pytest.raises(ValueError) as error:
        variable.check("x", value)
    assert str(error.value).startswith(message)
    assert "; " in str(error.value)


def test_bytes_are_to_be_divided():
    with pytest.raises(TypeError, match=r"got torch.uint8; write x.float\(\) / 255"):
        Image(1, 2, 2).check("x", torch.zeros(1, 1, 2, 2, dtype=torch.uint8))


def test_an_image_may_overshoot_by_a_rounding_but_no_more():
    image = Image(1, 1, 1)
    image.check("x", torch.tensor([[[[1.0 + 5e-7]]], [[[-5e-7]]]]))
    with pytest.raises(ValueError, match="clamp"):
        image.check("x", torch.tensor([[[[-1e-5]]]]))


def test_bounds_belong_to_the_support():
    # float32 knows 0.1 only roughly; the comparison must use the same rounding
    Continuous(lower=0.1, upper=0.7).check("x", torch.tensor([0.1, 0.7]))


def test_gradients_pass_through_a_check():
    value = torch.tensor([0.5], requires_grad=True)
    assert Continuous(lower=0.0).check("x", value) is value
    with pytest.raises(ValueError, match=r"got 0\.5 in row 0"):
        Continuous(lower=1.0).check("x", value)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: Continuous(lower=1.0, upper=1.0), ValueError),
        (lambda: Continuous(lower=float("inf")), ValueError),
        (lambda: Continuous(upper=float("nan")), ValueError),
        (lambda: Continuous(lower="0"), ValueError),  # pyright: ignore[reportArgumentType]
        (lambda: Continuous(unit=3), TypeError),  # pyright: ignore[reportArgumentType]
        (lambda: Categorical(1), ValueError),
        (lambda: Categorical(2.5), ValueError),  # pyright: ignore[reportArgumentType]
        (lambda: Categorical(True), ValueError),
        (lambda: Image(0, 28, 28), ValueError),
        (lambda: Image(1, 28, -1), ValueError),
        (lambda: variable_from_config({"type": "Text"}), ValueError),
        (lambda: variable_from_config({"classes": 2}), ValueError),
    ],
)
def test_impossible_variables_are_refused(make, error):
    with pytest.raises(error, match=r"expected .*, got .*; "):
        make()


def test_numbers_of_numpy_are_numbers():
    column = np.array([0, 3, 1], dtype=np.int64)
    made = (Categorical(column.max() + 1), Continuous(lower=np.float32(0.5)), Image(*np.array([1, 4, 4])))
    assert made == (Categorical(4), Continuous(lower=0.5), Image(1, 4, 4))
    for variable in made:
        assert variable_from_config(json.loads(json.dumps(variable.to_config()))) == variable


def test_variables_are_frozen():
    with pytest.raises(AttributeError):
        Continuous().lower = 1.0  # pyright: ignore[reportAttributeAccessIssue]


def test_binary_counts_as_two_classes():
    assert Binary().classes == 2
    assert Binary().to_config() == {"type": "Binary"}
    assert Binary() != Categorical(2)


@pytest.mark.parametrize(
    ("variable", "value", "remedy"),
    [
        (Binary(), torch.tensor([0.0, float("nan")]), r"with 1 NaN; leave rows without a class out"),
        (Categorical(3), torch.eye(3)[:2], r"of one column per class write x\.argmax\(1\)"),
        (Categorical(3), ["mild", "severe"], r"graph\['x'\].encode"),
        (Image(1, 2, 2), torch.full((1, 1, 2, 2), 1246.0), r"for 16 bits write x / 65535, for 12 bits x / 4095"),
        (Image(1, 2, 2), torch.full((1, 1, 2, 2), 200.0), r"for grey levels of 0 to 255 write x / 255"),
    ],
)
def test_the_remedy_is_the_one_that_helps(variable, value, remedy):
    with pytest.raises((TypeError, ValueError), match=remedy):
        variable.check("x", value)


def test_classes_with_names_are_written_by_name_and_told_by_name():
    marker = Categorical(names=("none", "circle", "triangle"))
    assert marker == Categorical(3, names=["none", "circle", "triangle"])
    assert marker != Categorical(3)
    assert marker.encode("marker", ["circle", "triangle", "none"]).tolist() == [1, 2, 0]
    assert [marker.label(value) for value in range(3)] == ["none", "circle", "triangle"]
    assert [Categorical(3).label(2), Binary().label(0)] == ["2", "0"]
    assert repr(marker) == "Categorical(names=('none', 'circle', 'triangle'))"
    assert (repr(Categorical(3)), repr(Binary())) == ("Categorical(classes=3)", "Binary()")
    assert Categorical(3).to_config() == {"type": "Categorical", "classes": 3}
    with pytest.raises(ValueError, match=r"marker: expected one of none, circle, triangle, got 'square' in row 1"):
        marker.encode("marker", ["none", "square"])
    with pytest.raises(ValueError, match=r"m: expected a class from 0 to 2, got 'none'; .*Categorical\(names="):
        Categorical(3).encode("m", ["none"])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Categorical(3, names=("a", "b")), ValueError, "a name for each of 3 classes, got 'a', 'b'"),
        (lambda: Categorical(names=("a", "a")), ValueError, "another name for each class, got a, a"),
        (lambda: Categorical(names=("a", "")), ValueError, "a name for each of 2 classes"),
        (lambda: Categorical(names=("a",)), ValueError, "two or more classes, got 1"),
        (lambda: Categorical(names="ab"), ValueError, "two or more classes, got 1"),
        (lambda: Categorical(("a", "b")), TypeError, r"write names=\('a', 'b'\)"),
        (Categorical, ValueError, "two or more classes, got 0"),
        (lambda: Binary(names=("a", "b", "c")), ValueError, "a name for each of 2 classes"),
        (lambda: Binary(names="FM"), ValueError, "a name for each of 2 classes, got 'FM'"),
    ],
)
def test_names_that_are_not_one_for_each_class_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
