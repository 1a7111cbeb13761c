"""Text or table: what the lines of a file consist of, and the confs of a text."""

from pathlib import Path

import pytest
import yaml

from sextant.errors import UsageError
from sextant.guess import building, texts, texts_conf
from sextant.guess.result import Result

PLAY = "First Citizen:\nBefore we go, hear me speak.\n\nAll:\nSpeak, and we hear; speak!\n\n" * 30
SENTENCE = "It was late, and she said so, more than once, to all who came by. "
NOVEL = "".join(f"{SENTENCE * (5 + number % 4)}\n" for number in range(20))
TEXTS = {
    "play": PLAY,
    "novel": NOVEL,
    "one line": "Once there was a king.",
    "umlauts": "Es war spät, und er\nging müde nach Hause, wo\nniemand war.\n" * 9,
}
TABLES = {
    "commas": "name,town,age\n" + "Anna,Bern,7\n" * 20,
    "commas in quotes": "id,review\n" + '1,"good, and cheap"\n2,bad\n' * 20,
    "tabs": "name\ttown\n" + "Anna Maria Lind\tBern\n" * 20,
    "blanks": "anna bruno clara\n" * 30,
    "words": "anna\nbruno\nclara\n" * 30,
    "numbers": "17 4 1999 12\n3 5\n" * 30,
}


def written(folder: Path, name: str, content: str, encoding: str = "utf-8") -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content.encode(encoding))
    return path


@pytest.mark.parametrize("case", TEXTS)
def test_lines_of_words_are_text(tmp_path: Path, case: str) -> None:
    assert texts.are_texts(written(tmp_path, "a.txt", TEXTS[case]))


@pytest.mark.parametrize("case", TABLES)
def test_rows_of_a_table_are_no_text(tmp_path: Path, case: str) -> None:
    assert not texts.are_texts(written(tmp_path, "a.txt", TABLES[case]))


def test_a_name_or_bytes_of_something_else_are_no_text(tmp_path: Path) -> None:
    assert not texts.are_texts(written(tmp_path, "a.csv", PLAY))
    assert not texts.are_texts(written(tmp_path, "b.txt", PLAY + "\0" * 9))
    assert not texts.are_texts(written(tmp_path, "c.txt", ""))
    (tmp_path / "empty").mkdir()
    assert not texts.are_texts(tmp_path / "empty")


def test_a_folder_of_texts_is_one_without_what_systems_add(tmp_path: Path) -> None:
    written(tmp_path, "plays/one.txt", PLAY)
    written(tmp_path, "plays/two.md", NOVEL)
    written(tmp_path, "plays/.DS_Store", "x")
    assert texts.are_texts(tmp_path / "plays")
    guess = texts.texts(tmp_path / "plays", None)
    assert guess.lengths == {"one.txt": len(PLAY), "two.md": len(NOVEL)}
    written(tmp_path, "plays/table.csv", TABLES["commas"])
    assert not texts.are_texts(tmp_path / "plays")


def test_the_encoding_is_guessed_or_chosen(tmp_path: Path) -> None:
    path = written(tmp_path, "a.txt", "Grüße aus Köln, und mehr davon\n" * 9, "cp1252")
    guess = texts.texts(path, None)
    assert guess.encoding == "cp1252" and "Grüße" in guess.doubts[0]
    assert texts.texts(path, "latin-1").doubts == []
    with pytest.raises(UsageError, match="a.txt line 1 is not ascii .*; with `make new`: ENCODING"):
        texts.texts(path, "ascii")


def built(path: Path, **options: str) -> Result:
    return building.build(path, "plays", options, {})


def test_the_confs_of_a_text_fit_its_length(tmp_path: Path) -> None:
    short = built(written(tmp_path, "plays.txt", PLAY))
    assert (short.kind, short.family, short.task) == ("text", "char_rnn", "writing")
    conf = yaml.safe_load(short.dataset)
    assert conf["columns"] == {
        **{"encoding": "utf-8", "chunk": texts.SHORTEST_CHUNK, "unseen": "refuse"},
    }
    assert conf["split"] == {"by": "place", "shares": texts_conf.SHARES_OF_LITTLE}
    long = built(written(tmp_path, "long.txt", PLAY * 200))
    assert yaml.safe_load(long.dataset)["columns"]["chunk"] == texts.LONGEST_CHUNK
    assert yaml.safe_load(long.dataset)["split"]["shares"] == texts_conf.SHARES
    for model in (short.model, long.model):
        blocks = yaml.safe_load(model)
        assert blocks["net"]["window"] <= 80 and 8 <= blocks["schedule"]["max_epochs"] <= 60
    assert "see docs/writer.md" in short.model


def test_many_files_are_held_out_as_a_whole(tmp_path: Path) -> None:
    for number in range(texts.MANY_FILES):
        written(tmp_path, f"plays/{number}.txt", PLAY)
    conf = yaml.safe_load(built(tmp_path / "plays").dataset)
    assert conf["split"]["by"] == "hash" and conf["split"]["salt"] == 0


def test_the_caller_says_that_a_table_is_text_or_a_text_a_table(tmp_path: Path) -> None:
    path = written(tmp_path, "a.txt", TABLES["words"])
    assert built(path, kind="text").kind == "text"
    assert built(path, task="writing").kind == "text"
    path = written(tmp_path, "b.txt", "when,what\n" + "1 May,rain\n2 June,sun\n" * 40)
    assert built(path, target="what").kind == "tabular"
