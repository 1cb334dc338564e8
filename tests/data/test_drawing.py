"""Drawing: shapes have the area and the place they are said to have."""

import math

import pytest
import torch

from causalcf.data.drawing import Canvas, paint


@pytest.fixture(params=[64, 96])
def canvas(request):
    return Canvas(request.param, left=0.0, right=20.0, bottom=-1.0, top=21.0)


@pytest.fixture
def point():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 50, generator=generator) * 4 + 8


def area(canvas, coverage):
    width, height = canvas.pixel
    return coverage.sum((1, 2)) * width * height


def test_a_disk_has_its_area_and_its_centre(canvas, point):
    x, y = point
    for radius in (0.4, 1.5, 6.0):
        disk = canvas.disk(x, y, radius)
        torch.testing.assert_close(area(canvas, disk), torch.full((50,), math.pi * radius**2), rtol=0.04, atol=0)
        assert area(canvas, disk).mean() == pytest.approx(math.pi * radius**2, rel=1e-3)
        middle = (disk * canvas.x).sum((1, 2)) / disk.sum((1, 2))
        height = (disk * canvas.y[:, None]).sum((1, 2)) / disk.sum((1, 2))
        torch.testing.assert_close(torch.stack([middle, height]), point, atol=0.02, rtol=0)


def test_a_box_is_exact_however_thin(canvas, point):
    x, y = point
    for width, height in ((5.0, 3.0), (0.1, 4.0), (0.05, 0.01)):
        box = canvas.box(x, x + width, y, y + height)
        torch.testing.assert_close(area(canvas, box), torch.full((50,), width * height), rtol=2e-3, atol=0)


def test_a_segment_has_the_area_of_its_length_and_its_round_ends(canvas, point):
    x, y = point
    for dx, dy, width in ((6.0, 0.0, 1.0), (-3.0, 4.0, 1.0), (5.0, 5.0, 0.1)):
        segment = canvas.segment((x, y), (x + dx, y + dy), width)
        expected = math.hypot(dx, dy) * width + math.pi * width**2 / 4
        assert area(canvas, segment).mean() == pytest.approx(expected, rel=0.03)


def test_a_parabola_has_the_area_of_its_length(canvas):
    for reach, fall, width in ((8.0, 6.0, 0.5), (9.0, 3.0, 1.0)):
        jet = canvas.parabola(5.0, 12.0, reach, fall, width)
        above = (canvas.y > 12.0 - fall)[:, None]
        t = torch.linspace(0, 1, 10_001)
        steps = torch.stack([reach * t, -fall * t * t]).diff(dim=1)
        assert area(canvas, jet * above).item() == pytest.approx(float(steps.norm(dim=0).sum()) * width, rel=0.03)


def test_a_jet_passes_where_its_equation_says():
    canvas = Canvas(400, left=0.0, right=10.0, bottom=0.0, top=10.0)
    jet = canvas.parabola(2.0, 8.0, torch.tensor([3.0, 6.0]), torch.tensor([6.0, 4.0]), 0.2)
    across = (jet * canvas.x).sum(2) / jet.sum(2).clamp_min(1e-6)
    for fall in (2.0, 3.0, 4.0):
        row = int((canvas.y - (8.0 - fall)).abs().argmin())
        expected = 2 + torch.tensor([3 * (fall / 6) ** 0.5, 6 * (fall / 4) ** 0.5])
        torch.testing.assert_close(across[:, row], expected, atol=0.02, rtol=0)
    assert jet[:, :, canvas.x < 1.9].max() == 0


def test_up_is_up():
    canvas = Canvas(4, left=0.0, right=4.0, bottom=0.0, top=4.0)
    assert canvas.box(0.0, 4.0, 0.0, 1.0)[0].tolist() == [[0.0] * 4] * 3 + [[1.0] * 4]
    assert canvas.x.tolist() == [0.5, 1.5, 2.5, 3.5]
    assert canvas.y.tolist() == [3.5, 2.5, 1.5, 0.5]


def test_coverage_is_a_share_and_rows_do_not_meet(canvas, point):
    x, y = point
    shapes = {
        "disk": lambda x, y: canvas.disk(x, y, 2.0),
        "segment": lambda x, y: canvas.segment((x, y), (10.0, 10.0), 1.0),
        "box": lambda x, y: canvas.box(x, x + 2, y - 1, y),
        "parabola": lambda x, y: canvas.parabola(x, y, 3.0, y, 0.5),
    }
    for name, shape in shapes.items():
        whole = shape(x, y)
        assert whole.min() >= 0, name
        assert whole.max() <= 1, name
        assert torch.equal(shape(x[7:8], y[7:8]), whole[7:8]), name


def test_a_segment_without_length_is_a_dot(canvas):
    dot = canvas.segment((10.0, 10.0), (10.0, 10.0), 2.0)
    assert area(canvas, dot).item() == pytest.approx(math.pi, rel=0.05)


def test_later_layers_cover_earlier_ones():
    red, blue = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)
    full, half = torch.ones(2, 1, 1), torch.full((1, 1, 1), 0.5)
    image = paint((1.0, 1.0, 1.0), [(full, red), (half, blue)])
    assert image.shape == (2, 3, 1, 1)
    assert image[0].flatten().tolist() == [0.5, 0.0, 0.5]


def test_bad_canvases_are_refused():
    with pytest.raises(ValueError, match="number of pixels"):
        Canvas(0, 0.0, 1.0, 0.0, 1.0)
    with pytest.raises(ValueError, match=r"number of pixels.*64\.5"):
        Canvas(64.5, 0.0, 1.0, 0.0, 1.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="left < right and bottom < top"):
        Canvas(64, 0.0, 1.0, 1.0, 0.0)
