from pathlib import Path


wildcard_constraints:
    dataset="|".join(config["datasets"]),
    model="|".join(config["models"]),
    level="|".join(map(str, config["levels"])),


def dataset_keys(*keys):
    """Only those keys of a data set that matter, so that a change of another one redoes nothing."""
    return lambda wildcards: {key: config["datasets"][wildcards.dataset][key] for key in keys}


def users_files(wildcards):
    """The files of a data set that lie outside the workflow, so that a change of one is noticed."""
    dataset = config["datasets"][wildcards.dataset]
    if dataset["source"]["kind"] != "path":
        return []
    folder = Path(dataset["source"]["folder"])
    names = (volume[part] for volume in dataset["volumes"] for part in ("images", "labels"))
    return sorted({str(folder / name.split(":")[0]) for name in names})  # file.h5:dataset


def variant_of(wildcards):
    return {key: config["models"][wildcards.model][key] for key in ("trains", "token_width", "mix")}
