"""Clips from a folder: which are they, of which classes, how long."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sextant import config
from sextant.commands import new
from sextant.errors import UsageError
from sextant.guess import building, clips


def gif(seed: int, frames: int = 6, size: int = 20) -> bytes:
    rng = np.random.default_rng(seed)
    images = [Image.fromarray(rng.integers(0, 256, (size, size), np.uint8)) for _ in range(frames)]
    file = io.BytesIO()
    images[0].save(file, "GIF", save_all=True, append_images=images[1:])
    return file.getvalue()


def write(folder: Path, *paths: str, frames: int = 6) -> Path:
    for seed, path in enumerate(paths):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(gif(seed, frames))
    return folder


def write_frames(folder: Path, clip: str, frames: int = 6, word: str = "frame") -> None:
    (folder / clip).mkdir(parents=True)
    for number in range(frames):
        image = Image.fromarray(np.full((20, 24), 20 * number, np.uint8))
        image.save(folder / clip / f"{word}_{number:03}.png")


def guessed(folder: Path, **options: str) -> clips.Clips:
    return clips.clips(clips.clip_paths(folder), options)


def test_folders_are_classes_and_parts(tmp_path: Path) -> None:
    plain = guessed(write(tmp_path / "a", "walk/1.gif", "walk/2.gif", "run/1.gif"))
    assert (plain.train, plain.test, plain.classes) == (["."], [], {"run": 1, "walk": 2})
    assert (plain.past, plain.future, plain.side, plain.grey) == (6, 0, 16, True)
    parts = ("train/walk/1.gif", "train/run/1.gif", "test/walk/2.gif")
    split = guessed(write(tmp_path / "b", *parts))
    assert (split.train, split.test, split.tested) == (["train"], ["test"], 1)
    asked = guessed(tmp_path / "a", task="frames")
    assert (asked.past, asked.future, asked.classes) == (3, 3, {})


def test_clips_without_classes_are_continued(tmp_path: Path) -> None:
    folder = write(tmp_path, "1.gif", "2.gif", frames=30)
    found = guessed(folder)
    assert (found.classes, found.past, found.future, found.count) == ({}, 10, 10, 2)
    with pytest.raises(UsageError, match="nothing says the classes of the clips"):
        guessed(folder, task="classification")
    (folder / "3.gif").write_bytes(gif(3, frames=7))
    assert "the shortest of a sample, 3.gif, has 7" in guessed(folder).doubts[0]
    (folder / "2.gif").write_bytes(gif(2, frames=2))
    with pytest.raises(UsageError, match="2.gif has 2 frames; expected at least 3, to see two"):
        guessed(folder)


def test_what_is_a_clip_and_what_a_picture(tmp_path: Path) -> None:
    films = write(tmp_path / "films", "a/1.gif", "b/1.gif")
    assert clips.has_clips(clips.clip_paths(films))
    stills = write(tmp_path / "stills", "a/1.gif", "b/1.gif", frames=1)
    assert not clips.has_clips(clips.clip_paths(stills))
    for clip in ("walk/1", "walk/2", "run/1"):
        write_frames(tmp_path / "frames", clip)
        write_frames(tmp_path / "pets", clip, word="cat")
    frames = clips.clip_paths(tmp_path / "frames")
    assert list(frames.files) == ["run/1", "walk/1", "walk/2"] and clips.has_clips(frames)
    assert not clips.has_clips(clips.clip_paths(tmp_path / "pets"))


def test_confs_of_clips_fit_the_code(workspace: Path, tmp_path: Path) -> None:
    """From a folder to prepared parts, for both tasks."""
    paths = [f"{label}/{number}.gif" for label in ("walk", "run") for number in range(30)]
    folder = write(tmp_path / "gaits", *paths)
    for name, options, task in (
        ("gaits", {}, "classification"),
        ("next", {"task": "frames"}, "frames"),
    ):
        text = new.new({"file": str(folder), "name": name, **options})
        assert f"kind clips, task {task}, family conv_lstm" in text and "rows of the parts" in text
        conf = config.dataset(name)
        assert conf.columns.files.train == ["gaits"] and conf.columns.size == 16
    with pytest.raises(UsageError, match="has no clips: no folder of frames"):
        (tmp_path / "empty").mkdir()
        building.build(tmp_path / "empty", "empty", {"kind": "clips"}, {})
