from __future__ import annotations

from pathlib import Path

import pytest

from training.recipe import FOLDER, RecipeError, load_recipe, recipe_path


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / f"{name}.toml"
    path.write_text(text)
    return path


def test_a_recipe_takes_over_what_another_says(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "mine",
        """
        extends = "mini_xception_emotion"
        name = "mine"
        data = []
        [training]
        epochs = 3
        augment = { erase = 0.5 }
        """,
    )
    base, mine = load_recipe("mini_xception_emotion"), load_recipe(path)
    augment = base.training.augment.model_copy(update={"erase": 0.5})
    training = base.training.model_copy(update={"epochs": 3, "augment": augment})
    changes = {"name": "mine", "data": (), "training": training}
    assert mine == base.model_copy(update=changes)


def test_what_extends_may_itself_extend(tmp_path: Path) -> None:
    write(tmp_path, "one", 'extends = "joint_cnn"\nnetwork_options = { convolutions = 1 }')
    path = write(tmp_path, "two", f'extends = "{tmp_path}/one.toml"\n[network_options]\ndense = []')
    assert load_recipe(path).network_options == {"convolutions": 1, "dense": []}


def test_a_misspelt_field_of_an_extension_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "bad", 'extends = "joint_cnn"\n[training]\nepoch = 3')
    with pytest.raises(RecipeError, match=r"bad\.toml: training\.epoch: Extra inputs"):
        load_recipe(path)


def test_what_is_no_toml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"bad\.toml is no TOML: "):
        load_recipe(write(tmp_path, "bad", "name = "))
    (tmp_path / "bad.toml").write_bytes(b"\xff")
    with pytest.raises(RecipeError, match=r"bad\.toml is no TOML: "):
        load_recipe(tmp_path / "bad.toml")


def test_ablations_are_found_by_name() -> None:
    assert recipe_path("joint_cnn_no_dense") == FOLDER / "ablations" / "joint_cnn_no_dense.toml"
    assert recipe_path("nothing") == FOLDER / "nothing.toml"
    with pytest.raises(RecipeError, match=r"there is no recipe .*/recipes/nothing\.toml"):
        load_recipe("nothing")
