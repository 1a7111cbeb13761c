"""Small data sets and models of each kind, which test_fuzz.py asks and trains on mutated files."""

import functools
import gzip
import io
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import av
import builders
import movielens
import numpy as np
import pandas as pd
import stock
import torch
import yaml
from mutations import File, Form
from PIL import Image

from sextant import config, paths, plugins, prepare, pull, saved_model, validate
from sextant.commands import new
from sextant.files import write_json
from sextant.kinds.clips.columns import Columns as ClipColumns
from sextant.kinds.levels import texts_of
from sextant.kinds.ratings.columns import Columns as RatingsColumns
from sextant.kinds.ratings.twin import write_twin
from sextant.kinds.splits import DateSplit, HashSplit, PlaceSplit
from sextant.kinds.tabular.columns import Columns as TableColumns
from sextant.kinds.text.columns import Columns as TextColumns
from sextant.strict import check

SPLIT = builders.hash_split(0.4, 0.2, 0.2, 0.2)
Frame = pd.DataFrame
Canonical = dict[str, pd.DataFrame]


class Subject(NamedTuple):
    """A data set and a model of it.

    files: the raw files; `mutated` names those that are mutated.
    form: how they are written; None if they are no text.
    renames: whether a raw file may have another name.
    question: rows to answer, in the form `asked`.
    order: the columns by which answers are sorted before they are compared.
    """

    kind: str
    columns: Any
    split: HashSplit | DateSplit | PlaceSplit
    files: dict[str, bytes]
    mutated: list[str]
    form: Form | None
    renames: bool
    question: File
    asked: Form | None
    task: str
    family: str
    net: dict[str, Any]
    calibration: dict[str, float]
    order: list[str]


# --- subjects -----------------------------------------------------------------------------------


def _csv(rows: Frame, delimiter: str = ",", header: bool = True) -> bytes:
    return rows.to_csv(sep=delimiter, index=False, header=header).encode()


def tabular() -> Subject:
    """Cats and dogs with a key and gaps."""
    rows = builders.with_gaps(builders.animal_table())
    return Subject(
        kind="tabular",
        columns=builders.ANIMAL_COLUMNS,
        split=SPLIT,
        files={"animals.csv": _csv(rows)},
        mutated=["animals.csv"],
        form=Form(","),
        renames=True,
        question=File("question.csv", _csv(rows.head(23))),
        asked=Form(","),
        task="classification",
        family="ann",
        net=builders.UNTRAINED_NET,
        calibration={"temperature": 1.5},
        order=["id"],
    )


def headerless() -> Subject:
    """The same without header and key, with semicolons, a mark for unknown and an indicator."""
    rows = builders.with_gaps(builders.animal_table()).drop(columns=["note", "id"])
    rows = rows.assign(height=rows["height"].astype("str").str.replace(".", ",").fillna("?"))
    rows["height"] = rows["height"].replace("nan", "?")
    columns = TableColumns(
        target="class",
        numeric=["height", "weight"],
        categorical=["colour", "shoes"],
        names=list(rows.columns),
        delimiter=";",
        decimal=",",
        unknown=["?"],
        missing={"height": "indicator"},
    )
    form = Form(";", has_header=False)
    return tabular()._replace(
        columns=columns,
        files={"animals.data": _csv(rows, ";", False)},
        mutated=["animals.data"],
        form=form,
        question=File("question.data", _csv(rows.head(23), ";", False)),
        asked=form._replace(reorder=False),
        order=[],
    )


def amounts() -> Subject:
    """A number to predict, written as an amount of money."""
    rows = builders.animal_table().drop(columns=["class", "note"])
    prices = 40 * rows["weight"] + np.arange(len(rows))
    rows["price"] = [f"$ {price:,.2f}" for price in prices]
    columns = TableColumns(
        key="id",
        target="price",
        target_type="number",
        numeric=["height", "weight"],
        categorical=["colour", "shoes"],
        delimiter=";",
        thousands=",",
    )
    return tabular()._replace(
        columns=columns,
        files={"animals.csv": _csv(rows, ";")},
        form=Form(";"),
        question=File("question.csv", _csv(rows.head(23), ";")),
        asked=Form(";"),
        task="regression",
        calibration={"margin": 3.0},
    )


def series() -> Subject:
    """Weekdays with prices and a volume, M/D/Y."""
    days = stock.days()
    return Subject(
        kind="series",
        columns=stock.COLUMNS,
        split=stock.SPLIT,
        files={"days.csv": _csv(days)},
        mutated=["days.csv"],
        form=Form(","),
        renames=True,
        question=File("question.csv", _csv(days.tail(17))),
        asked=Form(","),
        task="forecasting",
        family="rnn",
        net={"hidden_size": 7, "layers": 1, "dropout": 0.0},
        calibration={"weight": 1.0, "width": 1.3},
        order=[],
    )


RATINGS_NET = {
    **{"mode": "user", "hidden_sizes": [11], "activation": "tanh", "dropout": 0.0, "tied": False},
    **{"masks": True, "hide": [0.0, 0.0], "visible": 1.0, "refeed": 0.0, "shrinkage": 2.0},
}
LIKES_NET = {
    **{"hidden": 3, "chain": "cd", "k": 1, "clamped": 0.0, "conditional": True, "shrinkage": 2.0},
    **{"init": 0.7, "units": "bernoulli"},
}


def ratings() -> Subject:
    """Ratings, films and users in files without header, as MovieLens 100K has them."""
    with tempfile.TemporaryDirectory() as folder:
        write_twin(movielens.small_twin(), movielens.COLUMNS, Path(folder))
        files = {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}
    lines = files["u1.base"].decode().splitlines()
    asked = [line for line in lines if int(line.split("\t")[0]) <= 5]
    header = "user,item,rating\n"
    rows = [",".join(line.split("\t")[:3]) for line in asked]
    question = header + "".join(f"{row}\n" for row in rows)
    return Subject(
        kind="ratings",
        columns=movielens.COLUMNS,
        split=movielens.SPLIT,
        files=files,
        mutated=["u1.base", "u1.test", "u.item", "u.user"],
        form=Form("\t", "latin-1", has_header=False, quotes=False),
        renames=False,
        question=File("question.csv", question.encode()),
        asked=Form(","),
        task="likes",
        family="rbm",
        net=LIKES_NET,
        calibration={"slope": 1.0, "offset": 0.0},
        order=["user", "item"],
    )


def rated() -> Subject:
    """Ratings in one CSV file with half stars, repeated pairs and times; text ids."""
    rng = np.random.default_rng(3)
    rows = pd.DataFrame(
        {
            "reader": [f"r{number:02d}" for number in rng.integers(0, 23, 401)],
            "isbn": [f"{number:04d}X" for number in rng.integers(0, 31, 401)],
            "stars": rng.integers(1, 11, 401) / 2,
            "when": 1_388_707_200 + np.arange(401),
        }
    )
    columns = RatingsColumns.model_validate(
        {
            **{"user": "reader", "item": "isbn", "rating": "stars", "like": 3.5, "time": "when"},
            **{"values": {"lowest": 0.5, "highest": 5.0, "step": 0.5}, "files": ["stars.csv"]},
            "repeated": "last",
        }
    )
    return Subject(
        kind="ratings",
        columns=columns,
        split=builders.hash_split(0.4, 0.2, 0.2, 0.2),
        files={"stars.csv": _csv(rows)},
        mutated=["stars.csv"],
        form=Form(","),
        renames=False,
        question=File("question.csv", _csv(rows.head(61))),
        asked=Form(","),
        task="stars",
        family="sae",
        net=RATINGS_NET,
        calibration={},
        order=["reader", "isbn"],
    )


PICTURE_NET = {
    **{"widths": [3, 5], "stride": 1, "mirror": True, "zoom": 1.5, "rotation": 15.0, "light": 0.2},
    **{"colour": 0.1, "hole": 0.3, "label_smoothing": 0.0},
}


def _zip_of(pictures: Mapping[str, bytes]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        builders.write_zip(Path(folder), pictures)
        return (Path(folder) / "pictures.zip").read_bytes()


def images() -> Subject:
    """Loose pictures in folders, one for each class."""
    pictures = builders.random_pictures(37)
    mutated = [path for path in pictures if path.endswith(("1.png", "5.png", "8.png"))]
    return Subject(
        kind="images",
        columns=builders.picture_columns(size=16),
        split=SPLIT,
        files=pictures,
        mutated=mutated,
        form=None,
        renames=False,
        question=File("question.png", pictures[mutated[0]]),
        asked=None,
        task="classification",
        family="cnn",
        net=PICTURE_NET,
        calibration={"temperature": 1.0},
        order=["path"],
    )


def archive() -> Subject:
    """The pictures in a zip."""
    pictures = _zip_of(builders.random_pictures(37))
    return images()._replace(
        files={"pictures.zip": pictures},
        mutated=["pictures.zip"],
        question=File("question.zip", pictures),
    )


def pixels() -> Subject:
    """Grey pictures of 8 pixels by 8 in a table with a column for each pixel."""
    rng = np.random.default_rng(5)
    rows = pd.DataFrame(rng.integers(0, 256, (61, 64)))
    rows.columns = [f"pixel{number}" for number in range(64)]
    rows.insert(0, "label", rng.choice(["3", "8"], 61))
    columns = builders.picture_columns(
        files={"format": "pixels", "train": ["train.csv"]}, target="label", channels=1, size=8
    )
    return images()._replace(
        columns=columns,
        files={"train.csv": _csv(rows)},
        mutated=["train.csv"],
        form=Form(",", reorder=False),
        question=File("question.csv", _csv(rows.head(11))),
        asked=Form(",", reorder=False),
    )


def _npz(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # type: ignore[arg-type]  # its stub takes no mapping of arrays
    return stream.getvalue()


def _noise(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Grey pictures of 9 pixels by 8, and their classes."""
    rng = np.random.default_rng(count)
    return rng.integers(0, 256, (count, 8, 9), np.uint8), rng.integers(0, 3, count, np.uint8)


def arrays() -> Subject:
    """Pictures in an .npz file, with those for testing."""
    pictures, labels = _noise(61)
    asked = _noise(19)
    content = _npz(x_train=pictures, y_train=labels, x_test=asked[0], y_test=asked[1])
    files = {"format": "arrays"}
    pairs = {}
    for part in ("train", "test"):
        pairs[part] = [{"file": "noise.npz", "images": f"x_{part}", "labels": f"y_{part}"}]
    columns = builders.picture_columns(
        files=files | pairs, target="label", channels=1, size=8, smallest=5
    )
    return images()._replace(
        columns=columns,
        files={"noise.npz": content},
        mutated=["noise.npz"],
        question=File("question.npz", content),
    )


def _idx(array: np.ndarray) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def idx() -> Subject:
    """Pictures and labels in IDX files, one of them gzipped."""
    pictures, labels = _noise(61)
    files = {"train-images": gzip.compress(_idx(pictures)), "train-labels": _idx(labels)}
    block = {"format": "idx", "train": [{"images": "train-images", "labels": "train-labels"}]}
    columns = builders.picture_columns(files=block, target="label", channels=1, size=8, smallest=5)
    return images()._replace(
        columns=columns,
        files=files,
        mutated=list(files),
        question=File("question", _idx(pictures)),
    )


CLIPS_NET = {
    **{"patch": 4, "hidden": [3], "kernel": 3, "reach": 2, "motions": 1, "seen_weight": 0.5},
}


def _film(seed: int, form: str) -> bytes:
    """A film of three frames of noise, of 16 pixels a side."""
    frames = np.random.default_rng(seed).integers(0, 256, (3, 16, 16), np.uint8)
    content = io.BytesIO()
    if form == "gif":
        images = [Image.fromarray(frame) for frame in frames]
        images[0].save(content, "GIF", save_all=True, append_images=images[1:])
        return content.getvalue()
    with av.open(content, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = 16, 16, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray")))
        container.mux(stream.encode())
    return content.getvalue()


def clips() -> Subject:
    """Clips in folders of their class: GIFs, films, and frames with numbers."""
    files = {}
    for number in range(29):
        label = "walk" if number % 2 else "run"
        form = "mp4" if number % 5 == 0 else "gif"
        files[f"{label}/{number}.{form}"] = _film(number, form)
    for frame in range(3):
        files[f"walk/last/frame_{frame}.png"] = builders.random_picture(frame, 16, 16)
    block = {"files": {"format": "folders"}, "target": "gait", "size": 16, "past": 3, "future": 0}
    return Subject(
        kind="clips",
        columns=ClipColumns.model_validate(block),
        split=SPLIT,
        files=files,
        mutated=["walk/1.gif", "run/0.mp4", "walk/5.mp4", "walk/last/frame_1.png"],
        form=None,
        renames=False,
        question=File("question.gif", files["walk/1.gif"]),
        asked=None,
        task="classification",
        family="conv_lstm",
        net=CLIPS_NET,
        calibration={"temperature": 1.0},
        order=["path"],
    )


MAP_NET = {
    **{"rows": 3, "cols": 4, "grid": "hexagonal", "toroidal": False, "neighborhood": "gaussian"},
    **{"sigma": 2.0, "sigma_end": 0.5, "init": "sample", "update": "batch"},
}
HYBRID_NET = {
    **{"target": "label", "rows": 3, "cols": 3, "sigma": 1.5, "sigma_end": 0.7, "map_epochs": 3},
    **{"reads": ["place", "distances", "surprise"], "injected": 0.0, "bins": 3},
    **{"embedding_size": 5, "hidden_sizes": [7], "dropout": 0.0, "bodies": 1, "members": 2},
}
ATLAS_NET = {
    **{"maps": 3, "rows": 3, "cols": 3, "columns": 0.8, "sigma": 1.5, "sigma_end": 0.5},
    **{"width": 0.7, "degree": 2, "shrinkage": 5.0},
}
STATES_NET = {
    **{"bins": 3, "hidden": 2, "couplings": ["visible", "between"], "likelihood": "exact"},
    **{"chains": 5, "sweeps": 1, "temperatures": 2, "l1": 0.0, "l2": 0.0, "init": 0.1},
}


def mapped() -> Subject:
    """The animals on a map."""
    return tabular()._replace(
        task="mapping", family="som", net=MAP_NET, calibration={"threshold": 1.0}
    )


def hybrid() -> Subject:
    """The animals by a net that reads a map."""
    return tabular()._replace(family="som_ann", net=HYBRID_NET)


def atlas() -> Subject:
    """The price of the animals by many maps, with a density."""
    calibration = {"factor": 1.0, "grid_low": 0.0, "grid_high": 9000.0}
    return amounts()._replace(family="som_atlas", net=ATLAS_NET, calibration=calibration)


def states() -> Subject:
    """The animals by the states of their columns."""
    columns = builders.ANIMAL_COLUMNS.model_copy(update={"categorical": ["colour"]})
    columns = columns.model_copy(update={"ignored": ["note", "shoes"]})
    net = STATES_NET
    of = tabular()._replace(columns=columns, task="scenarios", family="boltzmann", net=net)
    return of._replace(calibration={})


def week() -> Subject:
    """The prices of several days ahead."""
    columns = stock.COLUMNS.model_copy(update={"horizon": 3})
    net = {"hidden_size": 7, "layers": 1, "dropout": 0.0, "horizon": 3}
    calibration = {}
    for ahead in (1, 2, 3):
        calibration |= {f"weight_{ahead}": 1.0, f"width_{ahead}": 1.3}
    return series()._replace(columns=columns, net=net, calibration=calibration)


def film() -> Subject:
    """The next frames of clips."""
    of = clips()
    columns = of.columns.model_copy(update={"past": 2, "future": 1, "target": None})
    net = {**CLIPS_NET, "seen_weight": 0.5}
    return of._replace(columns=columns, task="frames", net=net, calibration={})


def text() -> Subject:
    """A play in two files, continued from prompts."""
    play = "First Citizen:\nWe have it, and keep it.\n\nAll:\nNo, caf\u00e9!\n\n" * 30
    net = {
        **{"cell": "gru", "hidden_size": 5, "layers": 1, "embedding": 3, "dropout": 0.0},
        **{"tied": False, "window": 8},
    }
    return Subject(
        kind="text",
        columns=TextColumns(chunk=40),
        split=PlaceSplit(by="place", shares=SPLIT.shares),
        files={"play.txt": play.encode(), "more.txt": play[:400].encode()},
        mutated=["play.txt", "more.txt"],
        form=None,
        renames=True,
        question=File("prompts.txt", b"First Citizen:\nWe have\nAll"),
        asked=None,
        task="writing",
        family="char_rnn",
        net=net,
        calibration={},
        order=[],
    )


SUBJECTS: dict[str, Callable[[], Subject]] = {
    function.__name__: function
    for function in (
        *(
            tabular,
            headerless,
            amounts,
            series,
            ratings,
            rated,
            images,
            archive,
            pixels,
            arrays,
            idx,
            clips,
            film,
            text,
            mapped,
            hybrid,
            atlas,
            states,
            week,
        ),
    )
}


@functools.cache
def subject(name: str) -> Subject:
    return SUBJECTS[name]()


@functools.cache
def model(name: str) -> saved_model.SavedModel:
    """A model of a subject with random weights, its encoder fitted on the clean train part."""
    of = subject(name)
    parts = prepared_parts(of, of.files)
    encoder = plugins.kind(of.kind).encoder.Encoder.fit(parts["train"], of.columns)
    torch.manual_seed(3)
    net: Any = saved_model.build(of.family, encoder.sizes, of.net)
    initialise = plugins.optional(net, "initialise", None)
    if initialise:
        initialise(encoder.encode(parts["train"]))
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    card = {
        **{"task": of.task, "family": of.family, "kind": of.kind, "net": of.net},
        **{"calibration": of.calibration, "columns": of.columns.model_dump()},
    }
    return saved_model.SavedModel(card, net.eval(), encoder)


# --- what the package does with them ------------------------------------------------------------


def nothing(*of: object) -> None:
    """In place of an optional member that a kind lacks."""


def prepared_parts(of: Subject, files: Mapping[str, bytes]) -> Canonical:
    """The parts of raw files, after all that is done before a training.

    The files are read, looked at for the expectations, repaired, split, encoded, written and read.
    """
    kind = plugins.kind(of.kind)
    conf = config.DatasetConf.model_construct(
        kind=of.kind, columns=of.columns, split=of.split, name="fuzz", about=""
    )
    with tempfile.TemporaryDirectory() as folder:
        written = builders.write_files(Path(folder) / "raw", files)
        raw = kind.rows.read(written, of.columns)
        table = kind.rows.table(raw, of.columns)
        plugins.optional(kind.rows, "passed_over", nothing)(raw)
        plugins.call(plugins.optional(kind.rows, "findings", nothing), raw, of.columns, table=table)
        parts = prepare.prepare(raw, conf)
        validation = {"source": "local", "digest": "0"}
        write_json(Path(folder) / "profile.json", prepare.profile(parts, conf, validation))
        encoder = kind.encoder.Encoder.fit(parts["train"], of.columns)
        loaded = {}
        for name, rows in parts.items():
            encoder.encode(rows)
            kind.rows.write(rows, Path(folder) / name)
            loaded[name] = kind.rows.load(Path(folder) / name)
    return loaded


def answers(name: str, question: File) -> Canonical:
    """The answers of a subject's model to a file of questions."""
    chosen = model(name)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        builders.write_files(Path(folder), {question.name: question.content})
        rows = chosen.read(Path(folder) / question.name)
        answers = chosen.predict(rows)
    if "path" in answers:  # of a picture in a table or an archive: <name of the file>/<number>
        answers["path"] = answers["path"].str.removeprefix(question.name)
    _assert_finite(name, answers)
    return {"answers": answers}


def frame_answers(name: str, question: File) -> Canonical:
    """The answers to rows as a program asks them, in a frame made of JSON.

    What is no rows is no case here: MLflow's server and `read` refuse it.
    """
    try:
        content = json.loads(question.content)
        frame = pd.DataFrame(content)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answers = model(name).predict(frame)
    _assert_finite(name, answers)
    return {"answers": answers}


def _assert_finite(name: str, answers: Frame) -> None:
    numbers = answers.drop(columns=model(name).named_by, errors="ignore").select_dtypes("number")
    assert np.isfinite(numbers).all(axis=None), f"an answer is no number:\n{numbers}"


# Expectations that the clean table of `tabular` meets, one of each sort.
SUITE = """
- {expectation: expect_table_row_count_to_be_between, min_value: 100}
- {expectation: expect_column_distinct_values_to_be_in_set, column: class, value_set: [cat, dog, x]}
- {expectation: expect_column_distinct_values_to_contain_set, column: colour, value_set: [red]}
- {expectation: expect_column_distinct_values_to_equal_set, column: class, value_set: [cat, dog]}
- {expectation: expect_column_max_to_be_between, column: weight, max_value: 100}
- {expectation: expect_column_mean_to_be_between, column: height, min_value: 160, max_value: 180}
- {expectation: expect_column_median_to_be_between, column: height, min_value: 160}
- {expectation: expect_column_min_to_be_between, column: weight, min_value: 30}
- {expectation: expect_column_pair_values_a_to_be_greater_than_b, column_A: id, column_B: weight}
- {expectation: expect_column_stdev_to_be_between, column: height, min_value: 5, max_value: 20}
- {expectation: expect_column_unique_value_count_to_be_between, column: shoes, min_value: 2}
- {expectation: expect_column_value_lengths_to_be_between, column: colour, min_value: 3}
- {expectation: expect_column_values_to_be_between, column: shoes, min_value: 30, max_value: 50}
- {expectation: expect_column_values_to_be_in_set, column: colour, value_set: [red], mostly: 0.1}
- {expectation: expect_column_values_to_be_in_type_list, column: height, type_list: [float64]}
- {expectation: expect_column_values_to_be_increasing, column: id, strictly: true}
- {expectation: expect_column_values_to_be_of_type, column: class, type_: str}
- {expectation: expect_column_values_to_be_unique, column: id}
- {expectation: expect_column_values_to_match_regex, column: colour, regex: "^[a-z]+$"}
- {expectation: expect_column_values_to_not_be_in_set, column: shoes, value_set: [12, 13],
   row_condition: height > 160 and colour == 'red'}
- {expectation: expect_column_values_to_not_be_null, column: height, mostly: 0.7}
- {expectation: expect_column_values_to_not_match_regex, column: class, regex: "[?]"}
- {expectation: expect_compound_columns_to_be_unique, column_list: [id, colour]}
- {expectation: expect_table_columns_to_match_ordered_list,
   column_list: [id, note, height, colour, weight, shoes, class]}
- {expectation: expect_table_columns_to_match_set, column_set: [id, height], exact_match: false}
"""


def suite() -> list[dict[str, Any]]:
    """The expectations of `tabular`."""
    entries = []
    for entry in yaml.safe_load(SUITE):
        entries.append({**entry, "severity": "critical", "why": "animals are like this"})
    return entries


def validated(of: Subject, files: Mapping[str, bytes], entries: Any) -> bytes:
    """The report on raw files by a suite, after all that stage validate does but the Data Docs."""
    rows = plugins.kind(of.kind).rows
    with tempfile.TemporaryDirectory() as folder:
        raw = rows.read(builders.write_files(Path(folder) / "raw", files), of.columns)
    table = rows.table(raw, of.columns)
    named_by = plugins.optional(rows, "NAMED_BY", None)
    results = validate.validate(table, entries, named_by)
    validate.remarks("fuzz", results)
    validate.refusal("fuzz", results, plugins.optional(rows, "ADVICE", {}))
    report = validate.summary("fuzz", "local", len(table), "0", results)
    return json.dumps(report, allow_nan=False).encode()


IS_WHOLE = "SEXTANT_FUZZ" in os.environ  # Great Expectations takes a third of a second for a case

# By subject: the target that a person names for `make new`, and whether FILE is the folder.
NEW: dict[str, tuple[str | None, bool]] = {
    "tabular": ("class", False),
    "headerless": ("5", False),
    "amounts": ("price", False),
    "series": (None, False),
    "ratings": (None, True),
    "rated": (None, False),
    "images": ("animal", True),
    "archive": (None, False),
    "pixels": ("label", False),
    "arrays": (None, False),
    "idx": (None, True),
    "clips": ("gait", True),
    "text": (None, True),
}


def new_parts(name: str, files: Mapping[str, bytes], mutated: str) -> Canonical:
    """The parts of raw files by the confs that `make new` writes for them; the confs are removed.

    `mutated` is the name of the file in question.
    """
    target, is_folder = NEW[name]
    if name == "ratings":  # in a folder the file of ratings is known by its name
        files = {"u.data" if file == "u1.base" else file: files[file] for file in files}
    before = paths.PARAMS.read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        raw = builders.write_files(Path(folder) / "mine", files)
        options = {"file": str(raw if is_folder else raw / mutated), "name": "fuzz"}
        if target is not None:
            options["target"] = target
        try:
            printed = new.new(options)
            assert max(map(len, printed.splitlines())) < 400, printed
            conf = config.dataset("fuzz")
            rows = plugins.kind(conf.kind).rows
            pull.pull(conf, Path(folder) / "raw")
            read = rows.read(Path(folder) / "raw", conf.columns)
            table = rows.table(read, conf.columns)
            validate.check_suite(conf.expectations, "the suite", list(table.columns))
            if IS_WHOLE:
                reason = validate.refusal("fuzz", validate.validate(table, conf.expectations))
                assert reason is None, reason  # the suite was written for this very file
            return prepare.prepare(read, conf)
        finally:
            paths.PARAMS.write_bytes(before)
            shutil.rmtree(paths.SCRATCH, ignore_errors=True)
            for path in (paths.dataset_conf, paths.expectations, paths.model_conf):
                path("fuzz").unlink(missing_ok=True)


def columns_of(name: str, block: Any) -> Any:
    """The columns that a block of a conf describes; raises UsageError for a fault in it."""
    return check(plugins.kind(subject(name).kind).columns.Columns, block, "columns")


def conf_of(name: str) -> Any:
    """The block `columns` of a subject as plain values, with what it leaves out."""
    block: Any = subject(name).columns.model_dump()
    return yaml.safe_load(yaml.safe_dump(block))


# --- comparing ----------------------------------------------------------------------------------


def _comparable(cell: object) -> object:
    return cell.tobytes() if isinstance(cell, np.ndarray) else cell


def canonical(frames: Canonical, order: list[str], is_sorted: bool) -> Canonical:
    """Frames with rows and columns in a fixed order, and ids as text, whatever type they have."""
    ordered = {}
    for name, rows in frames.items():
        frame = rows.map(_comparable)
        for column in frame.columns.intersection(order):
            frame[column] = texts_of(frame[column])
        if is_sorted:
            keys = [column for column in order if column in frame] or list(frame.columns)
            frame = frame.sort_values(keys, key=lambda column: column.astype("str"), kind="stable")
        ordered[name] = frame[sorted(frame.columns)].reset_index(drop=True)
    return ordered


def assert_same(got: Canonical, expected: Canonical) -> None:
    """Raise AssertionError unless frames are the same, numbers up to rounding errors."""
    assert list(got) == list(expected)
    for name, rows in expected.items():
        # A surplus column of ratings stays in their parts, and is read by nothing.
        common = got[name][rows.columns]
        pd.testing.assert_frame_equal(common, rows, rtol=1e-4, atol=1e-6, obj=name)
