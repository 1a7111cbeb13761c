"""Next frames: metrics by hand, SSIM against scikit-image, baselines that know the answer."""

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from sextant import saved_model
from sextant.commands import predict
from sextant.errors import UsageError
from sextant.kinds.clips.columns import Columns
from sextant.kinds.clips.encoder import Encoder
from sextant.tasks.frames import baselines, figures
from sextant.tasks.frames import metrics as frames

SIZE, PAST, FUTURE = 32, 4, 3
COLUMNS = Columns.model_validate(
    {"files": {"format": "folders"}, "size": SIZE, "past": PAST, "future": FUTURE}
)
ENCODER = Encoder(COLUMNS, [], SIZE)


def moving(velocity: tuple[int, int], start: tuple[int, int]) -> np.ndarray:
    """A clip of a bright cross that moves by whole pixels, uint8 (frames, SIZE, SIZE, 1)."""
    clip = np.zeros((PAST + FUTURE, SIZE, SIZE, 1), np.uint8)
    for number, frame in enumerate(clip):
        y = start[0] + number * velocity[0]
        x = start[1] + number * velocity[1]
        frame[y : y + 5, x + 2] = 200
        frame[y + 2, x : x + 5] = 255
    return clip


def rows_of(*clips: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"clip": pd.Series(list(clips), dtype=object)})


ROWS = rows_of(moving((2, -1), (4, 18)), moving((0, 2), (20, 3)), moving((0, 0), (9, 9)))


def in_unit(clips: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(clips).permute(0, 1, 4, 2, 3).float() / 255


# --- metrics ------------------------------------------------------------------------------------


def test_errors_are_sums_over_pixels_and_means_over_frames_and_clips() -> None:
    rng = np.random.default_rng(1)
    predicted = rng.integers(0, 256, (3, FUTURE, SIZE, SIZE, 1), np.uint8)
    answers = frames.as_answers(in_unit(predicted))
    scores = frames.score(answers, ROWS, ENCODER)
    truth = np.stack(ROWS["clip"])[:, PAST:]
    difference = (predicted.astype(float) - truth) / 255
    assert scores["mse"] == pytest.approx((difference**2).sum((2, 3, 4)).mean())
    assert scores["mae"] == pytest.approx(np.abs(difference).sum((2, 3, 4)).mean())
    assert scores["mse_2"] == pytest.approx((difference[:, 1] ** 2).sum((1, 2, 3)).mean())
    sample = frames.contributions(answers, ROWS, ENCODER)
    assert sample.observed == pytest.approx(scores["mse"])
    batch = ENCODER.encode(ROWS)
    watched = frames.watch({"frames": in_unit(predicted)}, batch)
    assert watched == {name: pytest.approx(scores[name]) for name in frames.WATCHED}


def test_ssim_is_that_of_scikit_image() -> None:
    """Against skimage.metrics.structural_similarity of scikit-image 0.26.0 with data_range=1, whose
    defaults (win_size=7, no Gaussian weights, the sample covariance) are those of published numbers
    for Moving MNIST."""
    y, x = np.mgrid[:20, :24]
    frame = (7 * x * x + 13 * y + 3 * x * y) % 256
    expected = {
        0.3687500112314622: (frame + 40 * ((x + y) % 3)) % 256,
        0.7628402000817567: np.clip(frame // 2 + 4 * y, 0, 255),
        0.6391123766303851: frame // 2,
        -0.008790491393794746: np.roll(frame, 1, axis=1),
    }
    for similarity, other in expected.items():
        pair = [torch.tensor(levels / 255)[None, None, None] for levels in (frame, other)]
        assert frames.ssim(*pair).item() == pytest.approx(similarity, abs=1e-12)
    colours = np.stack([frame, *list(expected.values())[:2]])
    pair = [torch.tensor(levels / 255)[None, None] for levels in (colours, np.roll(colours, 1, 0))]
    assert frames.ssim(*pair).item() == pytest.approx(0.4699628014422234, abs=1e-12)


def test_ssim_against_a_plain_loop_over_windows() -> None:
    """Eq. 13 of Wang et al. 2004 at each square of 7 x 7 pixels, by NumPy's own covariance."""
    rng = np.random.default_rng(3)
    x, y = rng.random((2, 12, 10))
    values = []
    for top in range(12 - 6):
        for left in range(10 - 6):
            a = x[top : top + 7, left : left + 7].ravel()
            b = y[top : top + 7, left : left + 7].ravel()
            (var_a, cov), (_, var_b) = np.cov(a, b)
            luminance = 2 * a.mean() * b.mean() + 1e-4
            structure = 2 * cov + 9e-4
            below = (a.mean() ** 2 + b.mean() ** 2 + 1e-4) * (var_a + var_b + 9e-4)
            values.append(luminance * structure / below)
    measured = frames.ssim(torch.tensor(x)[None, None, None], torch.tensor(y)[None, None, None])
    assert measured.item() == pytest.approx(np.mean(values), abs=1e-6)
    assert frames.ssim(*[torch.tensor(x)[None, None, None]] * 2).item() == pytest.approx(1)


def test_constant_frames_have_the_ssim_of_their_luminance() -> None:
    shape = (1, 1, 1, 9, 9)
    value = frames.ssim(torch.full(shape, 0.2), torch.full(shape, 0.6)).item()
    assert value == pytest.approx((2 * 0.2 * 0.6 + 1e-4) / (0.04 + 0.36 + 1e-4), rel=1e-5)


# --- answers ------------------------------------------------------------------------------------


def test_answers_are_arrays_for_callers_and_gifs_as_files() -> None:
    predicted = in_unit(np.stack(ROWS["clip"])[:, PAST:])
    answers = frames.public(frames.as_answers(predicted))
    for clip, array in zip(ROWS["clip"], answers["frames"], strict=True):
        assert array.dtype == np.uint8 and (array == clip[PAST:, ..., 0]).all()
    table, files = frames.as_files(answers, ["a", "b", "c"])
    assert table["frames"].tolist() == list(files) == ["a.gif", "b.gif", "c.gif"]
    with Image.open(io.BytesIO(files["a.gif"])) as image:
        assert image.n_frames == FUTURE
        for place in range(FUTURE):
            image.seek(place)
            shown = np.asarray(image.convert("L"))
            assert (shown == ROWS["clip"][0][PAST + place, ..., 0]).all()


def test_a_task_of_next_frames_needs_some_and_no_label() -> None:
    labels = {"format": "folders", "labels": {"file": "a.csv"}}
    labelled = COLUMNS.model_validate(
        {"files": labels, "target": "gait", "size": SIZE, "past": PAST, "future": FUTURE}
    )
    read = frames.roles(labelled, ROWS)
    assert read.target is None and Columns(**read.model_dump()) == read
    still: Any = SimpleNamespace(columns=COLUMNS.model_copy(update={"future": 0}))
    with pytest.raises(UsageError, match="`future` is 0, so that there are no next frames"):
        frames.check(still)


# --- baselines and figures ----------------------------------------------------------------------


def fitted() -> dict[str, pd.DataFrame]:
    return {
        name: fit(ROWS, COLUMNS, encoder=ENCODER)(ROWS) for name, fit in baselines.BASELINES.items()
    }


def test_baselines_repeat_extrapolate_and_average() -> None:
    answers = fitted()
    scores = {name: frames.by_frame(table, ROWS)["mse"] for name, table in answers.items()}
    # By whole pixels, motion is extrapolated nearly without an error, and a still clip repeated.
    assert scores["motion"].max() <= 1 and scores["motion"].mean() < 0.2
    assert scores["last_frame"][2].max() < 1e-6 < scores["last_frame"][:2].min()
    drawn = frames.decoded(answers["last_frame"]["frames"].iloc[0])
    assert (drawn == ROWS["clip"][0][PAST - 1]).all()
    mean = np.stack(ROWS["clip"])[:, PAST:].mean((0, 1))
    drawn = frames.decoded(answers["mean_frame"]["frames"].iloc[1])
    assert np.abs(drawn - mean).max() <= 0.51


def test_what_leaves_the_frame_is_gone_and_the_ground_stays() -> None:
    clip = moving((0, 2), (4, 11))
    clip[:, 25:28] = 90
    drawn = baselines.extrapolated(in_unit(clip[None, :PAST]), 12)
    assert drawn[0, 0, 0, :20].sum() > 7 and drawn[0, -1, 0, :20].sum() <= 2
    assert drawn[0, -1, 0, 25:28].min() > 0.3


def test_figures_show_the_metrics_by_frame_ahead_and_strips() -> None:
    answers = fitted()
    model = answers.pop("motion")
    drawn = figures.figures(model, ROWS, COLUMNS, answers)
    assert list(drawn) == ["ahead", "small-error", "median-error", "large-error"]
    ahead = drawn["ahead"].axes[0]
    assert [line.get_label() for line in ahead.get_lines()] == ["model", *answers]
    (axes,) = drawn["median-error"].axes
    assert len(axes.get_images()) == PAST + 4 * FUTURE


class Repeating(torch.nn.Module):
    """Answers with the last frame, which is also what the baseline does."""

    def predict(self, batch: Any) -> dict[str, torch.Tensor]:
        last = batch.clip[:, -1:].float() / 255
        return {"frames": last.expand(-1, FUTURE, -1, -1, -1)}


def test_predict_writes_a_gif_for_each_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = saved_model.SavedModel(
        {"task": "frames", "kind": "clips", "calibration": {}}, Repeating(), ENCODER
    )
    monkeypatch.setattr(predict, "champion", lambda name: model)
    for path, clip in zip(("a/one", "b/one", "b-one"), ROWS["clip"], strict=True):
        file = tmp_path / "clips" / f"{path}.gif"
        file.parent.mkdir(parents=True, exist_ok=True)
        # Pillow would write frames that are alike once.
        file.write_bytes(
            frames.gif(clip[:PAST, ..., 0] + np.arange(PAST, dtype=np.uint8)[:, None, None])
        )
    arguments = ["model=film", f"input={tmp_path / 'clips'}"]
    with pytest.raises(UsageError, match="files beside a table; name the table: OUTPUT="):
        predict.main(arguments)
    predict.main([*arguments, f"output={tmp_path / 'answers.csv'}"])
    answers = pd.read_csv(tmp_path / "answers.csv")
    assert answers["path"].tolist() == ["a/one.gif", "b-one.gif", "b/one.gif"]
    assert answers["frames"].tolist() == ["a-one.gif", "b-one.gif", "b-one~2.gif"]
    assert {file.name for file in (tmp_path / "answers-files").iterdir()} == {*answers["frames"]}
    assert "3 files in" in capsys.readouterr().out
