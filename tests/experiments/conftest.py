import pytest
from tiny_grid import config, run, tiny_of


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """Tables and base of the tiny classifier."""
    return tiny_of(tmp_path_factory)


@pytest.fixture(scope="session")
def finished(small, tmp_path_factory):
    """A grid with posteriors and a variant that has run: (folder, its values, Run, Status, lines)."""
    folder = tmp_path_factory.mktemp("grid")
    values = config(
        small,
        methods=["softmax_response", "md", "probe", "adue_unguarded", "mc_dropout.mutual_information"],
        variants={"adue_bce": {"of": "adue_unguarded", "alphas": [0.0], "betas": [0.0]}},
        posteriors={
            "ensemble": {"plan": {"members": 2}},
            "kfold": {"plan": {"members": 2}},
            "mc_dropout": {"plan": {"rate": 0.2}, "samples": 3},
            "cores": {
                "kind": "swag_lora_xs",
                "plan": {"swag_epochs": 1},
                "training": {"rank": 4},
                "alone": "lora_xs",
                "samples": 2,
            },
        },
        predictions=["ensemble", "kfold"],
    )
    values["data"]["topics"]["ood"] = str(small.ood)
    return folder, values, *run(folder, values)
