"""Clips: folders of frames, GIFs and films as the same clip, made of digits, refused by name."""

import base64
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from builders import hash_split
from PIL import Image

from sextant.errors import DataError, UsageError
from sextant.kinds.clips import rows as clip_rows
from sextant.kinds.clips.columns import Columns
from sextant.kinds.clips.encoder import Encoder
from sextant.kinds.clips.rows import digits, films
from sextant.kinds.clips.twin import Twin, shapes, write_twin
from sextant.strict import check

SIZE, PAST, FUTURE = 16, 3, 2
FRAMES = PAST + FUTURE


def columns(**changes: object) -> Columns:
    """Clips of walkers and runners in folders of their class."""
    block = {
        "files": {"format": "folders"}, "target": "gait", "size": SIZE, "past": PAST,
        "future": FUTURE, "flat": 4,
    }  # fmt: skip
    return Columns.model_validate(block | changes)


def clip(seed: int = 1, frames: int = FRAMES, size: int = SIZE) -> np.ndarray:
    """A soft blob that moves over a dark frame, which codecs keep well; no two frames are alike."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    start, step = rng.uniform(4, 6, 2), rng.uniform(0.5, 1.5, 2)
    images = []
    for frame in range(frames):
        middle = start + frame * step
        distance = (y - middle[0]) ** 2 + (x - middle[1]) ** 2
        images.append((30 + 200 * np.exp(-distance / 18)).astype(np.uint8))
    return np.stack(images)[..., None]


def picture(frame: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(frame[..., 0]).save(file, "PNG")
    return file.getvalue()


def write_frames(folder: Path, frames: np.ndarray, first: int = 8) -> Path:
    """A folder of numbered pictures; their names sort differently from their numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames, start=first):
        (folder / f"frame{number}.png").write_bytes(picture(frame))
    return folder


def gif(frames: np.ndarray) -> bytes:
    images = [Image.fromarray(frame[..., 0]) for frame in frames]
    file = io.BytesIO()
    images[0].save(file, "GIF", save_all=True, append_images=images[1:], duration=40)
    return file.getvalue()


def mp4(frames: np.ndarray) -> bytes:
    """A film in H.264 of the best quality, from frames of an even size."""
    av = pytest.importorskip("av")
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            picture_of_film = av.VideoFrame.from_ndarray(frame[..., 0], format="gray")
            container.mux(stream.encode(picture_of_film))
        container.mux(stream.encode())
    return file.getvalue()


def folder_of_clips(folder: Path, each: int = 12) -> Path:
    """Walkers as folders of frames, runners as GIFs."""
    for number in range(each):
        write_frames(folder / f"walk/{number}", clip(number))
        (folder / "run").mkdir(exist_ok=True)
        (folder / f"run/{number}.gif").write_bytes(gif(clip(100 + number)))
    return folder


# --- one clip, however it is written ------------------------------------------------------------


def test_a_folder_a_gif_and_a_film_are_the_same_clip(tmp_path: Path) -> None:
    """A folder of PNGs and a GIF of greys lose nothing; a film loses what its codec does."""
    frames = clip()
    write_frames(tmp_path / "folder", frames)
    (tmp_path / "film.gif").write_bytes(gif(frames))
    (tmp_path / "film.mp4").write_bytes(mp4(frames))
    np.save(tmp_path / "film.npy", frames)
    read = {}
    for name in ("folder", "film.gif", "film.mp4", "film.npy"):
        rows = clip_rows.read_rows(tmp_path / name, columns())
        assert rows["path"].tolist() == [name]
        (read[name],) = rows["clip"]
    for name in ("folder", "film.gif", "film.npy"):
        assert (read[name] == frames).all(), name
    assert read["film.mp4"].shape == frames.shape
    difference = read["film.mp4"].astype(int) - frames
    assert np.abs(difference).max() <= 12 and np.abs(difference).mean() < 2


def test_frames_are_cut_to_their_middle_and_scaled() -> None:
    wide = np.zeros((4, 32, 48, 1), np.uint8)
    wide[:, :, 8:40] = clip(size=32, frames=4)
    film = films.from_array(wide, columns(), "wide")
    assert (film.width, film.height, film.frames.shape) == (48, 32, (4, SIZE, SIZE, 1))
    whole = films.from_array(clip(size=32, frames=4), columns(), "whole")
    # At the edge the filter reads what is beside the square.
    assert (film.frames == whole.frames)[:, 2:-2, 2:-2].all()


def test_a_clip_in_a_cell_is_base64_of_a_gif_a_film_or_an_array() -> None:
    frames = clip()
    for raw in (gif(frames), base64.b64decode(clip_rows.to_base64(frames))):
        for value in (raw, base64.b64encode(raw).decode(), frames):
            assert (clip_rows.decoded(value, columns(), "row 1") == frames).all()
    film = clip_rows.decoded(base64.b64encode(mp4(frames)).decode(), columns(), "row 1")
    assert film.shape == frames.shape


# --- refused, by name and in one line -----------------------------------------------------------


def damage_missing(folder: Path) -> None:
    (folder / "frame9.png").unlink()


def damage_twice(folder: Path) -> None:
    (folder / "frame09.png").write_bytes(picture(clip()[0]))


def damage_size(folder: Path) -> None:
    (folder / "frame10.png").write_bytes(picture(clip(size=18)[0]))


def damage_frame(folder: Path) -> None:
    (folder / "frame10.png").write_bytes(b"\x89PNG\r\n\x1a\nstrawberry")


def damage_single(folder: Path) -> None:
    for file in sorted(folder.iterdir())[1:]:
        file.unlink()


def damage_short(folder: Path) -> None:
    (folder / "frame12.png").unlink()


DAMAGES = {
    "a missing number": (
        damage_missing,
        "walk lacks frame 9: its frames are numbered from 8 to 12",
    ),
    "a number twice": (damage_twice, "walk has frame 9 twice, frame09.png and frame9.png; remove"),
    "two sizes": (
        damage_size,
        "walk has frames of two sizes: .* 16 x 16 pixels, frame 3 .* 18 x 18",
    ),
    "a broken frame": (damage_frame, "walk: frame frame10.png cannot be decoded as a picture"),
    "one frame": (damage_single, "walk has one frame; expected at least 5"),
    "too few frames": (damage_short, "walk has 4 frames; expected at least 5; give a longer clip"),
}


@pytest.mark.parametrize(("damage", "says"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_folder_of_frames_is_refused(damage: Any, says: str, tmp_path: Path) -> None:
    damage(write_frames(tmp_path / "walk", clip()))
    raw = clip_rows.read(tmp_path, columns(target=None))
    table = clip_rows.table(raw, columns(target=None))
    assert table["readable"].tolist() == [False]
    with pytest.raises(DataError, match=says) as met:
        clip_rows.repair(raw, columns(target=None))
    assert "\n" not in str(met.value)


@pytest.mark.parametrize(
    ("name", "raw", "says"),
    [
        ("a.gif", gif(clip())[:300], r"a.gif cannot be decoded as a GIF .*its end is missing"),
        ("a.gif", b"GIF89a", r"a.gif cannot be decoded as a GIF or an animated PNG"),
        ("a.mp4", b"\0\0\0\x18ftypmp42straw", r"a.mp4 cannot be decoded as a film \(Invalid data"),
        ("a.npy", b"\x93NUMPY\1\0", r"a.npy cannot be read as an array"),
        ("a.npy", b"strawberry", r"a.npy cannot be decoded as a film"),
    ],
)
def test_a_damaged_file_is_refused(name: str, raw: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(DataError, match=says) as met:
        clip_rows.read_rows(tmp_path / name, columns())
    assert "\n" not in str(met.value)


def test_a_film_without_what_reads_it_is_refused_by_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    film = mp4(clip())
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(DataError, match=r"a.mp4 is a film, and PyAV is not installed.*\[video\]"):
        films.from_file(film, columns(), "a.mp4")


def test_an_array_that_is_no_clip_is_refused() -> None:
    for array in (np.zeros((3, 4)), np.zeros((3, 4, 4), np.float32), np.zeros((0, 4, 4), np.uint8)):
        with pytest.raises(DataError, match="row 1 has .*; expected uint8"):
            films.from_array(array, columns(), "row 1")


def test_frames_without_numbers_are_in_the_order_of_their_names(tmp_path: Path) -> None:
    frames = clip()
    (tmp_path / "walk").mkdir()
    for name, frame in zip("abcde", frames, strict=True):
        (tmp_path / f"walk/{name}.png").write_bytes(picture(frame))
    (read,) = clip_rows.read_rows(tmp_path / "walk", columns())["clip"]
    assert (read == frames).all()


# --- classes, parts and inputs ------------------------------------------------------------------


def test_clips_in_folders_of_their_class_become_four_parts(tmp_path: Path) -> None:
    raw = clip_rows.read(folder_of_clips(tmp_path / "raw"), columns())
    table = clip_rows.table(raw, columns())
    assert list(table) == columns().all and len(table) == 24
    assert table["gait"].value_counts().to_dict() == {"walk": 12, "run": 12}
    assert table[["frames", "width", "height", "channels"]].drop_duplicates().size == 4
    assert clip_rows.findings(raw, columns(), table)[0].unexpected == 0
    rows = clip_rows.repair(raw, columns())
    parts = clip_rows.split(rows, columns(), hash_split(0.4, 0.2, 0.2, 0.2))
    clip_rows.check_parts(parts, columns())
    assert sum(map(len, parts.values())) == 24
    assert clip_rows.profile(parts, columns())["classes"] == ["run", "walk"]
    clip_rows.write(parts["train"], tmp_path / "train")
    loaded = clip_rows.load(tmp_path / "train")
    pd.testing.assert_frame_equal(loaded.drop(columns="clip"), parts["train"].drop(columns="clip"))
    assert (np.stack(loaded["clip"]) == np.stack(parts["train"]["clip"])).all()


def test_classes_may_stand_in_a_csv(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.gif").write_bytes(gif(clip(number)))
    block = columns(files={"format": "folders", "labels": {"file": "gaits.csv"}})
    listing = tmp_path / "gaits.csv"
    listing.write_text("path,gait\n0,walk\n1.gif,run\n2,walk\n")
    assert clip_rows.read(tmp_path, block).clips["gait"].tolist() == ["walk", "run", "walk"]
    listing.write_text("path,gait\n0,walk\n1,run\n2,walk\n3,run\n")
    with pytest.raises(DataError, match="gaits.csv lists 1 clips that do not exist: 3; add them"):
        clip_rows.read(tmp_path, block)
    listing.write_text("path,gait\n0,walk\n1,run\n")
    with pytest.raises(DataError, match="2.gif is not in gaits.csv; add it"):
        clip_rows.read(tmp_path, block)
    listing.write_text("path,step\n0,walk\n")
    with pytest.raises(DataError, match="gaits.csv lacks column gait; it has path, step"):
        clip_rows.read(tmp_path, block)


def test_the_same_clip_for_training_and_testing_is_refused(tmp_path: Path) -> None:
    block = columns(target=None, files={"format": "folders", "train": ["a"], "test": ["b"]})
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "one.gif").write_bytes(gif(clip()))
    rows = clip_rows.repair(clip_rows.read(tmp_path, block), block)
    parts = clip_rows.split(rows, block, hash_split(0.4, 0.3, 0.3, 0.0))
    with pytest.raises(DataError, match="a/one.gif, for training, and b/one.gif, for testing, are"):
        clip_rows.check_parts(parts, block)
    (tmp_path / "stray.gif").write_bytes(gif(clip(2)))
    with pytest.raises(DataError, match="stray.gif is outside of a, b; move it there"):
        clip_rows.read(tmp_path, block)


def test_input_rows_are_checked_by_name(tmp_path: Path) -> None:
    encoder = Encoder(columns(), ["run", "walk"], SIZE)
    (tmp_path / "a.gif").write_bytes(gif(clip(frames=7)))
    rows = clip_rows.read_rows(tmp_path, columns())
    (checked,) = encoder.check(rows)["clip"]
    assert (checked == clip(frames=7)[-PAST:]).all()  # what comes next follows the last frames
    (tmp_path / "clips.csv").write_text("path\na.gif\n")
    (listed,) = encoder.check(clip_rows.read_rows(tmp_path / "clips.csv", columns()))["clip"]
    assert (listed == checked).all()
    short = pd.DataFrame({"clip": [clip_rows.to_base64(clip(frames=2))]})
    with pytest.raises(DataError, match="row 1 has 2 frames; expected at least 3"):
        encoder.check(short)
    with pytest.raises(DataError, match="row 1: `clip` is not base64; expected a GIF, a film"):
        encoder.check(pd.DataFrame({"clip": ["straw*berry"]}))
    with pytest.raises(DataError, match="got speed; expected `clip`"):
        encoder.check(pd.DataFrame({"speed": [1]}))


def test_still_clips_and_those_of_one_colour_are_remarked_on() -> None:
    encoder = Encoder(columns(), ["run", "walk"], SIZE)
    still = np.repeat(clip()[:1], PAST, axis=0)
    clips = [clip()[:PAST], still, np.zeros_like(still)]
    rows = encoder.check(pd.DataFrame({"clip": pd.Series(clips, dtype=object)}))
    expected = ["", "nothing moves in the clip", "the clip has one colour"]
    assert encoder.remarks(rows, rows) == expected


# --- clips of digits ----------------------------------------------------------------------------


def digit_columns(**changes: object) -> Columns:
    files = {"format": "digits", "train": ["train"], "test": ["test"], "clips": 0.5, **changes}
    return Columns.model_validate({"files": files, "target": "directions"})


def test_digits_move_by_the_published_procedure() -> None:
    """Against a plain loop, clip by clip, over the same draws."""
    clips, frames, step = 7, 20, 0.1
    paths = digits.moved(clips, 2, frames, step, np.random.default_rng(3))
    rng = np.random.default_rng(3)
    starts = rng.random((clips, 2, 2))
    angles = rng.random((clips, 2)) * 2 * np.pi
    for number in range(clips):
        for digit in range(2):
            y, x = starts[number, digit]
            v_y, v_x = np.sin(angles[number, digit]), np.cos(angles[number, digit])
            for frame in range(frames):
                y += v_y * step
                x += v_x * step
                if x <= 0:
                    x, v_x = 0.0, -v_x
                if x >= 1:
                    x, v_x = 1.0, -v_x
                if y <= 0:
                    y, v_y = 0.0, -v_y
                if y >= 1:
                    y, v_y = 1.0, -v_y
                assert paths.places[number, digit, frame] == pytest.approx([y, x])


def test_a_frame_shows_the_brighter_pixel_at_whole_places() -> None:
    pictures = np.array([[[100, 0], [0, 50]], [[60, 60], [60, 60]]], np.uint8)
    places = np.zeros((1, 2, 1, 2))
    places[0, 1, 0] = [0.99, 0.0]  # 2.97 pixels down: two whole ones
    frames = digits.drawn(pictures, np.array([[0, 1]]), places, 5)
    expected = np.zeros((5, 5), np.uint8)
    expected[:2, :2] = pictures[0]
    expected[2:4, :2] = 60
    assert (frames[0, 0, :, :, 0] == expected).all()
    overlap = digits.drawn(pictures, np.array([[0, 1]]), np.zeros((1, 2, 1, 2)), 5)
    assert (overlap[0, 0, :2, :2, 0] == [[100, 60], [60, 60]]).all()


def test_clips_of_digits_share_no_digit_between_parts(tmp_path: Path) -> None:
    block = digit_columns(pools=50)
    write_twin(Twin(seed=1, pictures={"train": 401, "test": 61}, side=7), block, tmp_path)
    raw = clip_rows.read(tmp_path, block)
    again = clip_rows.read(tmp_path, block)
    assert (np.stack(raw.clips["clip"]) == np.stack(again.clips["clip"])).all()
    assert raw.clips["test"].sum() == 30 and len(raw.clips) == 230
    assert raw.clips["clip"].iloc[0].shape == (20, 16, 16, 1)
    assert raw.clips["clip"].iloc[0].any()
    assert 0.35 < (raw.clips["directions"] == "same").mean() < 0.65
    parts = clip_rows.split(raw.clips, block, hash_split(0.6, 0.2, 0.2, 0.0))
    clip_rows.check_parts(parts, block)
    keys = [set(parts[part]["key"]) for part in ("train", "val", "gate")]
    assert sum(map(len, keys)) == len(set().union(*keys)) == 50


def test_the_label_is_the_sign_of_the_scalar_product_of_the_last_moves() -> None:
    paths = digits.moved(53, 2, 10, 0.1, np.random.default_rng(5))
    same = digits.labels(paths, 9) == digits.SAME
    down, along = (paths.places[:, :, 9] - paths.places[:, :, 8]).transpose(2, 0, 1)
    free = ((paths.places[:, :, 8:10] > 0) & (paths.places[:, :, 8:10] < 1)).all((1, 2, 3))
    product = down[:, 0] * down[:, 1] + along[:, 0] * along[:, 1]
    assert free.sum() > 20
    assert (same == (product > 0))[free].all()


def test_signs_of_the_twin_differ_and_keep_a_black_margin() -> None:
    signs = shapes(101, 7, np.random.default_rng(1))
    assert len(np.unique(signs, axis=0)) > 95
    assert not signs[:, [0, -1]].any() and not signs[:, :, [0, -1]].any()
    assert signs.any((1, 2)).all()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"size": None}, "`size` is missing; write the side"),
        ({"target": None, "files": {"format": "folders", "labels": {"file": "a.csv"}}}, "`target`"),
        ({"files": {"format": "digits", "train": "a"}, "channels": 3}, "write `channels: 1`"),
        ({"files": {"format": "digits", "train": "a", "digits": 3}}, "write `target: null`"),
        ({"past": 1}, "`past` is 1; input should be greater"),
    ],
)
def test_columns_that_do_not_go_together_are_refused(changes: Any, says: str) -> None:
    block = {"files": {"format": "folders"}, "target": "gait", "size": 16, **changes}
    with pytest.raises(UsageError, match=says):
        check(Columns, block, "columns")
