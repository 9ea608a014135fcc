"""What `check` found, in lines for a person."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmark.data.check import Facts
from benchmark.data.near_duplicates import MOST, SIDE

LIMIT = 10  # of a list that may be long


def describe(facts: Facts) -> list[str]:
    """The lines of `data check`."""
    return [
        f"{facts['dataset']}: {facts['images']} images, pixels {facts['fingerprint'][:12]}",
        *(_set(name, found) for name, found in facts["sets"].items()),
        _sizes(facts),
        *(line for name, found in facts["sets"].items() for line in _contents(name, found, facts["classes"])),
        *_absent(facts),
        _patients(facts),
        *_statistics(facts),
        _duplicates(facts),
        _lookalikes(facts),
        *_leaks(facts),
    ]


def certain(facts: Facts) -> bool:
    """Whether something is wrong beyond doubt: a split tests on an image that it also learns from."""
    return any(leak["same_pixels"] for leak in facts["leaks"])


def _set(name: str, found: Facts) -> str:
    line = f"{name}: {found['images']} images"
    if "grades" in found:
        line += f" ({', '.join(f'{count} {grade}' for grade, count in found['grades'].items())})"
    for kind in ("patient", "slide"):
        if f"{kind}s" in found:
            line += f" of {_count(found[f'{kind}s'], kind)}"
    if found["unlabelled"]:
        means = "can only be unlabelled training images" if name == "train" else "cannot be scored"
        line += f"; {found['unlabelled']} without a mask, which {means}"
    return line


def _sizes(facts: Facts) -> str:
    line = "native sizes: " + ", ".join(f"{size} ({count})" for size, count in facts["native_sizes"].items())
    return line + (f"; cut into {facts['tiles']:,} tiles" if facts["tiles"] else "")


def _contents(name: str, found: Facts, classes: Sequence[str]) -> list[str]:
    labelled = found["images"] - found["unlabelled"]
    if not labelled:
        return []
    objects = found["objects"]
    words = [f"{found['classes'][label]['pixels']:.1%} of pixels are {label}" for label in classes[1:]]
    if len(classes) > 2:
        words = [f"{said} (in {_count(found['classes'][label]['images'], 'image')})"
                 for said, label in zip(words, classes[1:], strict=True)]
    line = (f"{name}: {', '.join(words)}, {objects['all']:,} objects, {objects['fewest']} to {objects['most']} an "
            "image")
    return [line + (f"; {found['ignored']:.1%} of pixels are to be ignored" if found["ignored"] else "")]


def _absent(facts: Facts) -> list[str]:
    """Classes that occur nowhere, or not where they would be learned or scored."""
    lines = []
    sets = facts["sets"]
    for label in facts["classes"]:
        where = [name for name, found in sets.items() if found["classes"][label]["images"]]
        if not where:
            ignored = any(found["ignored"] for found in sets.values())
            hint = "is it what the masks call 255, which is ignored?" if ignored else "is its value right?"
            lines.append(f"class '{label}' is in no mask: it can neither be learned nor scored; {hint}")
        elif "train" in sets and "train" not in where:
            lines.append(f"class '{label}' is in no training mask, only in {', '.join(where)}: it cannot be learned")
        elif where == ["train"] and len(sets) > 1:
            lines.append(f"class '{label}' is in training masks only: no test image shows whether it was learned")
    return lines


def _patients(facts: Facts) -> str:
    known = facts["patients"]
    if known is None:
        return "patients: not known"
    if not known["test_images"]:
        return "patients: no test images are named; the split 'folds' makes some and keeps patients apart"
    if not known["test_images_shared"]:
        return (f"patients: none of the {known['test_images']} test images comes from a patient who is also in "
                "training")
    return (f"patients: {known['test_images_shared']} of the {known['test_images']} test images come from patients who "
            f"are also in training ({known['test_patients_shared']} of {known['test_patients']} test patients); the "
            "split 'patients' keeps them apart")


def _statistics(facts: Facts) -> list[str]:
    lines = [f"training images at {facts['size']} px: {_moments(facts['statistics'])}"]
    published = facts["published_statistics"]
    if published is not None:
        wrong = max(published["standard_deviation"]) > 0.5
        impossible = "; more than 0.5 is impossible for values in [0, 1]" if wrong else ""
        lines.append(f"published statistics: {_moments(published)}{impossible}")
    return lines


def _moments(statistics: Facts) -> str:
    return (f"mean {_channels(statistics['mean'])}, "
            f"standard deviation {_channels(statistics['standard_deviation'])}")


def _duplicates(facts: Facts) -> str:
    groups = [" = ".join(names) for names in facts["duplicates"]]
    return f"images with the same pixels: {_listed(groups)}" if groups else "no two images have the same pixels"


def _lookalikes(facts: Facts) -> str:
    if facts["lookalikes"] is None:
        return f"images that look alike: not looked for among more than {MOST:,}, or below {SIDE} px"
    pairs = [" ~ ".join(pair["images"]) + _looks(pair) for pair in facts["lookalikes"]]
    return f"images that look alike: {_listed(pairs)}" if pairs else "no two images look alike, turned or mirrored"


def _leaks(facts: Facts) -> list[str]:
    splits = ", ".join(facts["splits"])
    if not facts["leaks"]:
        return [f"no image that is learned from is also tested on (splits: {splits})"]
    lines = []
    for leak in facts["leaks"][:LIMIT]:
        folds = ", ".join(map(str, leak["folds"]))
        where = f"split {leak['split']}, fold{'s' if len(leak['folds']) > 1 else ''} {folds}"
        if leak["same_pixels"]:
            lines.append(f"WRONG: {where}: the training image {leak['training']} is the test image {leak['test']}; "
                         "leave one of them out")
        else:
            lines.append(f"{where}: the training image {leak['training']} looks like the test image "
                         f"{leak['test']}{_looks(leak)}; look at both: --ids of `data preview`")
    more = len(facts["leaks"]) - LIMIT
    return lines + [f"and {more} more pairs across training and test (--json has all)"] * (more > 0)


def _looks(pair: Facts) -> str:
    position = f"{pair['position']}, " if pair["position"] else ""
    return f" ({position}correlation {pair['correlation']:.2f})"


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words[:LIMIT]) + (f" and {len(words) - LIMIT} more" if len(words) > LIMIT else "")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _channels(values: Iterable[float]) -> str:
    return f"({', '.join(f'{value:.4f}' for value in values)})"
