"""A map of the world: outlines of the countries from facts/world-110m.json, and a scale of colours
in two dimensions.

The outlines are those of Natural Earth (naturalearthdata.com, 1:110m, public domain), in TopoJSON:
countries-110m.json of the npm package `world-atlas` 2.0.2. The smallest countries are not among
them.
"""

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NotRequired, TypedDict

import matplotlib.colors
import numpy as np
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline

from . import paths
from .drawing import INK, TOOLTIP

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FILE = "world-110m.json"
ANTARCTICA = "010"  # no table has it, and it would take a fifth of the map
# Countries of Natural Earth without a code of ISO 3166-1, and the one that country-converter uses.
CODES = {"Kosovo": "412"}
BERING_STRAIT = -169.0  # degrees of longitude
NO_ROW = (INK, 0.3)
MARGIN = 0.02  # around the map, whose width is 5.3
# Coefficients of the projection Equal Earth: Šavrič, Patterson and Jenny, "The Equal Earth map
# projection", International Journal of Geographical Information Science 33, 2019.
EQUAL_EARTH = (1.340264, -0.081106, 0.000893, 0.003796)
# The scale of colours in OKLab. Its lightness falls from LIGHTEST to DARKEST with y. With x the hue
# goes from blue by pink to ochre, so that its blue-yellow part rises all the way: who does not see
# red and green apart sees that. The chroma is the same everywhere, so that no colour is grey, and
# small enough for all of them to be within sRGB.
LIGHTEST, DARKEST = 0.83, 0.45
CHROMA = 0.084
HUES = (275.0, 430.0)  # degrees


class Country(NamedTuple):
    """A country of the map: its name, and its rings of longitudes and latitudes, (points, 2)."""

    name: str
    rings: list[np.ndarray]


class Transform(TypedDict):
    scale: list[float]
    translate: list[float]


class Geometry(TypedDict):
    """A Polygon, whose `arcs` are rings, lists of indices; or a MultiPolygon, of polygons."""

    type: str
    arcs: list[Any]
    id: NotRequired[str]
    properties: dict[str, str]


class Collection(TypedDict):
    geometries: list[Geometry]


class Topology(TypedDict):
    """What is read of a file of TopoJSON."""

    transform: Transform
    arcs: list[list[list[int]]]
    objects: dict[str, Collection]


# --- TopoJSON -----------------------------------------------------------------------------------


def decoded_arcs(topology: Topology) -> list[np.ndarray]:
    """The arcs of a quantised topology as coordinates, (points, 2) each.

    Each position is stored as its difference from the one before, in whole steps of the grid that
    `transform` scales and shifts. Source: the TopoJSON format specification, 2.1.2 and 2.1.3.
    """
    transform = topology["transform"]
    scale, shift = np.array(transform["scale"]), np.array(transform["translate"])
    return [np.cumsum(arc, axis=0) * scale + shift for arc in topology["arcs"]]


def ring(arcs: Sequence[np.ndarray], indices: Sequence[int]) -> np.ndarray:
    """The arcs at these indices joined, (points, 2); ~i is arc i backwards.

    The first point of an arc is the last one of the arc before, and is left out.
    """
    pieces: list[np.ndarray] = []
    for index in indices:
        arc = arcs[index] if index >= 0 else arcs[~index][::-1]
        pieces.append(arc[1:] if pieces else arc)
    return np.concatenate(pieces)


def unwrapped(points: np.ndarray) -> np.ndarray:
    """A ring without jumps from 180 to -180 degrees: its longitudes may exceed 180 instead.

    The edge of the map is the Bering Strait, so that no land is cut.
    """
    longitudes = np.unwrap(points[:, 0], period=360)
    longitudes -= 360 * np.floor((longitudes.mean() - BERING_STRAIT) / 360)
    return np.column_stack([longitudes, points[:, 1]])


def countries_of(topology: Topology) -> dict[str, Country]:
    """The countries of a topology by their numeric code of ISO 3166-1, or by name without one."""
    arcs = decoded_arcs(topology)
    countries = {}
    for geometry in topology["objects"]["countries"]["geometries"]:
        polygons = geometry["arcs"]
        if geometry["type"] == "Polygon":
            polygons = [polygons]
        rings = []
        for polygon in polygons:
            rings += [unwrapped(ring(arcs, indices)) for indices in polygon]
        name = geometry["properties"]["name"]
        code = geometry.get("id") or CODES.get(name, name)
        countries[code] = Country(name, rings)
    return countries


@functools.cache
def countries() -> dict[str, Country]:
    """The countries of facts/world-110m.json by code."""
    text = Path(paths.FACTS / FILE).read_text(encoding="utf-8")
    return countries_of(json.loads(text))


# --- drawing ------------------------------------------------------------------------------------


def equal_earth(points: np.ndarray) -> np.ndarray:
    """Longitudes and latitudes in degrees as x and y on a plane that keeps areas, (points, 2)."""
    longitude, latitude = np.radians(points).T
    a1, a2, a3, a4 = EQUAL_EARTH
    t = np.arcsin(3**0.5 / 2 * np.sin(latitude))
    t2, t6 = t**2, t**6
    slope = 9 * a4 * t**8 + 7 * a3 * t6 + 3 * a2 * t2 + a1
    x = 2 * 3**0.5 * longitude * np.cos(t) / (3 * slope)
    y = t * (a4 * t**8 + a3 * t6 + a2 * t2 + a1)
    return np.column_stack([x, y])


def draw(axes: "Axes", colors: Mapping[str, str], tooltips: Mapping[str, str]) -> None:
    """Draw the world: each country with a colour by code in it, and the others in grey."""
    drawn = []
    for code, country in countries().items():
        if code == ANTARCTICA:
            continue
        rings = [equal_earth(points) for points in country.rings]
        drawn += rings
        outlines = [Outline(points, closed=True) for points in rings]
        patch = PathPatch(
            Outline.make_compound_path(*outlines),
            facecolor=colors.get(code, NO_ROW),
            edgecolor=INK,
            linewidth=0.3,
        )
        patch.set_gid(f"{TOOLTIP}{country.name}: {tooltips.get(code, 'no row')}")
        axes.add_patch(patch)
    low, high = np.concatenate(drawn).min(0) - MARGIN, np.concatenate(drawn).max(0) + MARGIN
    axes.set(aspect="equal", xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    axes.axis("off")


# --- a scale of colours in two dimensions -------------------------------------------------------


def scale_colors(places: np.ndarray) -> list[str]:
    """A colour for each place, (places, 2) as y and x, as #rrggbb: light to dark with y, blue to
    ochre with x.
    """
    span = np.ptp(places, axis=0)
    y, x = ((places - places.min(axis=0)) / np.where(span > 0, span, 1)).T
    lightness = LIGHTEST + (DARKEST - LIGHTEST) * y
    hue = np.radians(HUES[0] + (HUES[1] - HUES[0]) * x)
    lab = np.column_stack([lightness, CHROMA * np.cos(hue), CHROMA * np.sin(hue)])
    return [matplotlib.colors.to_hex(color) for color in np.clip(srgb(lab), 0, 1)]


def srgb(lab: np.ndarray) -> np.ndarray:
    """Colours of OKLab, (colors, 3), in sRGB, (colors, 3); outside of 0..1 none can be displayed.

    Source: B. Ottosson, "A perceptual color space for image processing", 2020.
    """
    to_cones = np.array(
        [
            [1.0, 0.3963377774, 0.2158037573],
            [1.0, -0.1055613458, -0.0638541728],
            [1.0, -0.0894841775, -1.2914855480],
        ]
    )
    to_linear = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = (lab @ to_cones.T) ** 3 @ to_linear.T
    curved = 1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055
    return np.where(linear <= 0.0031308, 12.92 * linear, curved)
