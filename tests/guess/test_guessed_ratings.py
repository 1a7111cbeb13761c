"""The columns, the scale and the lists of ratings."""

from pathlib import Path

import numpy as np
import pytest

from sextant.guess import ratings, reading

RNG = np.random.default_rng(2)


def text(delimiter: str, header: str = "", zeros: bool = False, text_ids: bool = False) -> str:
    lines = [header] if header else []
    for user in range(1, 31):
        for item in RNG.permutation(40)[:12]:
            stars = RNG.integers(0 if zeros else 1, 6)
            if zeros and RNG.random() < 0.4:
                stars = 0
            name = f"00{item}X" if text_ids else str(item + 1)
            lines.append(delimiter.join([str(user), name, str(stars), str(881_250_949 + user)]))
    return "\n".join(lines) + "\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def read(folder: Path, name: str, content: str) -> reading.Reading:
    (folder / name).write_text(content, encoding="latin-1")
    return reading.read(folder / name, {})


def test_ratings_without_a_header_are_those_of_movielens(folder: Path) -> None:
    main = read(folder, "u.data", text("\t"))
    items = read(
        folder, "u.item", "".join(f"{i}|Film Número {i}|01-Jan-1995||\n" for i in range(1, 41))
    )
    users = read(folder, "u.user", "".join(f"{i}|2{i}|M|x|0{i}\n" for i in range(1, 31)))
    found = ratings.roles(main, {})
    assert found is not None
    result = ratings.ratings(main, found, [users, items], {})
    assert result.roles == ("user", "item", "rating", "timestamp")
    assert result.ratings.form == {"delimiter": "\t", "names": list(result.roles)}
    assert result.values == [1, 2, 3, 4, 5] and result.like == 3 and result.repeated == 0
    assert result.items is not None and result.items.form["names"] == ["item", "title"]
    assert result.items.form["encoding"] == "cp1252" and result.title == "title"
    assert result.users is not None and result.users.form["names"] == ["user"]


def test_several_characters_are_a_delimiter(folder: Path) -> None:
    main = read(folder, "ratings.dat", text("::"))
    assert main.form["delimiter"] == "::" and ratings.roles(main, {}) is not None


def test_the_time_is_known_by_its_values(folder: Path) -> None:
    main = read(folder, "ratings.csv", text(",", "user,item,rating,when"))
    assert ratings.roles(main, {}) == ("user", "item", "rating", "when")


def test_ratings_with_a_header_are_known_by_its_names(folder: Path) -> None:
    main = read(folder, "ratings.csv", text(";", "User-ID;ISBN;Book-Rating;time", True, True))
    found = ratings.roles(main, {})
    assert found == ("User-ID", "ISBN", "Book-Rating", "time")
    result = ratings.ratings(main, found, [], {"like": "4"})
    assert result.unrated == 0 and result.values == [1, 2, 3, 4, 5] and result.like == 4
    assert result.items is None and "taken for none" in result.doubts[0]


def test_a_table_of_cases_is_no_table_of_ratings(folder: Path) -> None:
    rows = "".join(f"{i},{i % 7},{i % 5}\n" for i in range(200))
    cases = read(folder, "a.csv", f"user_id,product,score\n{rows}")
    assert ratings.roles(cases, {}) is None
    assert ratings.roles(read(folder, "b.csv", f"a,b,c\n{rows}"), {}) is None


def test_a_scale_has_the_values_that_no_row_has() -> None:
    assert ratings.filled([0.5, 1, 2, 5]) == [0.5 * step for step in range(1, 11)]
    assert ratings.filled([1, 2, 5]) == [1, 2, 3, 4, 5]
    assert ratings.filled([1, 10, 100]) == [1, 10, 100]
    assert [ratings.middle(v) for v in ([1, 2, 3, 4, 5], [0.5, 5], [1, 2])] == [3, 5, 2]
