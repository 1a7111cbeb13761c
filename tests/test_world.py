"""The map of the world: TopoJSON by hand, the projection, and the scale of colours."""

import math

import matplotlib.colors
import numpy as np
import pytest
from conftest import ROOT
from matplotlib.figure import Figure

from sextant import world

# Two triangles that share the diagonal, arc 0, of a square.
TOPOLOGY: world.Topology = {
    "transform": {"scale": [0.5, 2], "translate": [-1, 10]},
    "arcs": [
        [[0, 0], [2, 2]],
        [[2, 2], [-2, 0], [0, -2]],
        [[2, 2], [0, -2], [-2, 0]],
    ],
    "objects": {
        "countries": {
            "geometries": [
                {"type": "Polygon", "arcs": [[0, 1]], "id": "001", "properties": {"name": "Up"}},
                {"type": "MultiPolygon", "arcs": [[[~2, ~0]]], "properties": {"name": "Low"}},
                {"type": "Polygon", "arcs": [[0, 1]], "properties": {"name": "Kosovo"}},
            ]
        }
    },
}


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


# --- TopoJSON -----------------------------------------------------------------------------------


def test_arcs_are_sums_of_differences_scaled_and_shifted():
    arcs = world.decoded_arcs(TOPOLOGY)
    assert arcs[0].tolist() == [[-1, 10], [0, 14]]
    assert arcs[1].tolist() == [[0, 14], [-1, 14], [-1, 10]]


def test_rings_join_arcs_without_the_shared_point_and_a_negative_index_is_an_arc_backwards():
    countries = world.countries_of(TOPOLOGY)
    assert list(countries) == ["001", "Low", "412"]
    assert countries["001"].rings[0].tolist() == [[-1, 10], [0, 14], [-1, 14], [-1, 10]]
    (low,) = countries["Low"].rings
    assert low.tolist() == [[-1, 10], [0, 10], [0, 14], [-1, 10]]


def test_a_ring_across_180_degrees_has_no_jump():
    across = np.array([[170.0, 1], [-170, 2], [-160, 3], [170, 1]])
    assert world.unwrapped(across)[:, 0].tolist() == [170, 190, 200, 170]
    assert world.unwrapped(across - [[20, 0]])[:, 0].tolist() == [150, 170, 180, 150]
    west = np.array([[-170.0, 1], [170, 2], [-100, 3], [-170, 1]])
    assert world.unwrapped(west)[:, 0].tolist() == [-170, -190, -100, -170]


def test_the_committed_outlines_are_closed_and_have_the_countries():
    countries = world.countries()
    assert len(countries) == 177
    assert countries["152"].name == "Chile" and countries["643"].name == "Russia"
    for code, country in countries.items():
        for ring in country.rings:
            assert len(ring) >= 4 and np.isfinite(ring).all()
            if code != world.ANTARCTICA:
                np.testing.assert_allclose(ring[0], ring[-1])
                assert abs(np.diff(ring[:, 0])).max() < 90
    santiago = np.array([-70.7, -33.4])
    inside = [
        matplotlib.path.Path(ring).contains_point(santiago) for ring in countries["152"].rings
    ]
    assert any(inside)


# --- the projection -----------------------------------------------------------------------------


def test_equal_earth_has_its_known_extent_and_keeps_areas():
    x, y = world.equal_earth(np.array([[180.0, 0.0], [0.0, 90.0], [0.0, -90.0]])).T
    assert x[0] == pytest.approx(2 * math.sqrt(3) * math.pi / (3 * 1.340264)) and y[0] == 0
    assert y[1] == pytest.approx(1.3173627591574) == -y[2]
    areas = []
    for latitude in (0.0, 35.0, 70.0):
        corners = np.array([[10, latitude], [11, latitude], [10, latitude + 0.01]])
        first, second, third = world.equal_earth(corners)
        area = abs(np.cross([*(second - first), 0], [*(third - first), 0])[2])
        areas.append(area / math.cos(math.radians(latitude + 0.005)))
    assert areas == pytest.approx([areas[0]] * 3, rel=1e-3)


# --- colours ------------------------------------------------------------------------------------


def test_oklab_gives_the_known_colours():
    lab = np.array([[1.0, 0, 0], [0.0, 0, 0], [0.62796, 0.22486, 0.12585]])
    expected = [[1, 1, 1], [0, 0, 0], [1, 0, 0]]
    np.testing.assert_allclose(world.srgb(lab), expected, atol=2e-3)


def test_the_scale_is_within_srgb_darker_by_row_and_from_blue_to_yellow_by_column(monkeypatch):
    places = np.stack(np.meshgrid(range(5), range(7), indexing="ij"), -1).reshape(-1, 2)
    labs = []
    monkeypatch.setattr(world, "srgb", lambda lab, srgb=world.srgb: labs.append(lab) or srgb(lab))
    colors = world.scale_colors(places.astype(float))
    lab = labs[0].reshape(5, 7, 3)
    assert world.srgb(labs[0]).min() >= 0 and world.srgb(labs[0]).max() <= 1
    assert (np.diff(lab[:, :, 0], axis=0) < -0.05).all()
    # From blue, below 0, to yellow, above: what those see who do not tell red from green.
    assert (np.diff(lab[:, :, 2], axis=1) > 0).all()
    assert lab[0, 0, 2] < -0.05 and lab[0, -1, 2] > 0.05
    assert len(set(colors)) == 35
    saturation = matplotlib.colors.rgb_to_hsv(matplotlib.colors.to_rgb(colors[17]))[1]
    assert saturation > 0.2  # no unit is grey, the colour of a country without a row


def test_a_map_of_one_row_has_a_scale_too():
    assert len(set(world.scale_colors(np.array([[0.0, 0], [0, 1], [0, 2]])))) == 3


def test_countries_have_their_colours_and_the_others_are_grey():
    axes = Figure().add_subplot()
    world.draw(axes, {"152": "#123456"}, {"152": "row 1, column 2"})
    patches = {patch.get_gid(): patch for patch in axes.patches}
    assert len(patches) == 176  # without Antarctica
    chile = patches["tooltip:Chile: row 1, column 2"]
    assert matplotlib.colors.to_hex(chile.get_facecolor()) == "#123456"
    grey = patches["tooltip:Peru: no row"].get_facecolor()
    assert grey[0] == grey[1] == grey[2]
