"""The patients of the small data set: one for each trap of method section 5, and random ones."""

from .answers import COMMON, LEVEL_LISTS, MEANING_KEPT, MEANING_LOST, NAMES, answer
from .draft import AP, LATERAL, PA, Draft
from .studies import LOCATIONS, POST_LOCATIONS, WHOLE, entity, random_entity


def add_traps(draft: Draft) -> None:
    """Every trap of method section 5, each in a patient of its own."""
    pair, e = draft.pair, entity
    edema, pneumonia, effusion = e("edema"), e("pneumonia"), e("pleural effusion", ["small"], ["left"])
    large = e("pleural effusion", ["moderate"], ["left"])
    mild, worse = e("edema", ["mild"]), e("edema", ["moderate to severe"])
    gone = {"in_json": False}

    # Answers.
    pair("plain", [edema], [edema, e("hernia")])
    pair("unchanged", [edema, effusion], [effusion, edema])
    pair("descending_aorta", [pneumonia, e("scoliosis")], [e("tortuosity of the descending aorta"), e("hematoma")])
    pair("descending_aorta_alone", [e("tortuosity of the descending aorta", ["mild"])], [e("fracture")])
    two = ["pneumonia", "lung opacity"]
    pair("duplicate_list", [e("scoliosis")], [e(name) for name in two], twice=True, order=two)
    pair("duplicate_list_of_one", [edema], [edema, pneumonia], twice=True)
    for kind in MEANING_KEPT:
        pair(kind, [edema, e("contusion", ["mild"])], [edema, pneumonia, e("contusion", ["severe"])], damage=kind)
    for kind in MEANING_LOST:
        pair(kind, [edema, e("contusion", ["mild"])], [edema, pneumonia, e("contusion", ["severe"])], damage=kind)
    pair("blank", [edema], [pneumonia], text="")
    pair("spaces_only", [edema], [pneumonia], text="   ")
    pair(
        "unicode",
        [edema],
        [pneumonia],
        text="the main image has an additional finding of œdème 🫁 than the reference image. ",
    )
    pair("added_and_missing", [edema], [pneumonia], text=answer((), ["pneumonia", "edema"], ["edema"]))
    five = [e(name) for name in ("atelectasis", "cardiomegaly", "edema", "hernia", "fracture")]
    pair("long", five, [e(name) for name in ("pleural effusion", "pneumonia", "scoliosis", "emphysema", "granuloma")])

    # Levels.
    pair("level", [mild], [e("edema", ["severe"]), e("hernia")])
    pair("ambiguous_resolved", [mild], [worse, e("hernia")])
    pair("ambiguous_resolved_other_way", [e("edema", ["mild to moderate"])], [e("edema", ["severe"])])
    pair("ambiguous_unresolved", [mild], [worse], known=({}, gone))
    pair("ambiguous_json_silent", [mild], [edema], text=answer([("edema", "mild", "moderate to severe")]))
    pair("small_to_moderate_to_severe", [e("edema", ["small"])], [worse])
    pair("stored_as_two_words", [e("pleural effusion", ["small", "moderate"])], [e("pleural effusion", ["severe"])])
    for old, new in ((["mild", "acute"], ["severe"]), (["increasing"], ["moderate"]), (["mild", "severe"], ["small"])):
        pair("off_scale", [e("edema", old)], [e("edema", new), e("hernia")])
    pair("one_level_null", [mild], [edema, e("hernia")])
    sides = [{"location": ["right"], "level": [level]} for level in ("small", "severe")]
    pair("second_side_changed", *([e("pleural effusion", ["small"], ["left"], second=side)] for side in sides))
    pair(
        "bilateral",
        [e("atelectasis", ["mild"], ["bilateral"])],
        [e("atelectasis", ["severe"], ["bilateral"]), pneumonia],
    )

    # Rows about one area, which drop the pair's other changes.
    pair("area_of_a_side", [effusion, pneumonia], [large, edema])
    pair("area_of_several_words", [e("lung opacity", ["mild"], ["right", "middle", "to", "lower"]), edema],
         [e("lung opacity", ["severe"], ["right", "lower", "lung"])])  # fmt: skip
    pair("area_not_in_json", [effusion], [large, edema], known=(gone, {}))
    pair("area_ambiguous", [e("edema", ["mild"], ["left"])], [e("edema", ["moderate to severe"], ["left"]), pneumonia])
    pair(
        "stale_area_question",
        [effusion],
        [large, edema],
        area=False,
        question="what has changed in the left lung area?",
    )
    pair("stale_whole_question", [effusion], [large, edema], question=WHOLE)
    for trap, areas in (("area_after_whole", (False, True)), ("area_before_whole", (True, False))):
        row = pair(trap, [effusion, pneumonia], [large, edema], area=areas[0])
        draft.ask(row.main, row.reference, trap, area=areas[1])
    row = pair("duplicate_row", [edema], [pneumonia, e("hernia")])
    draft.ask(row.main, row.reference, "duplicate_row")

    # What is denied, and what a second version of the instructions can say.
    pair("removal_confirmed", [edema, pneumonia], [e("hernia")], denied=["edema", "pneumonia", "edema"])
    pair("removal_partly_confirmed", [edema, pneumonia], [e("hernia")], denied=["pneumonia"])
    pair("removal_unconfirmed", [edema], [e("hernia")], denied=["pneumothorax"])
    pair("words_of_additions", [], [
        e("pleural effusion", ["small"], ["left"], ["layering"], second={"location": ["right"], "level": ["moderate"]}),
        e("atelectasis", ["mild"], ["bibasilar"]), e("lung opacity", None, ["right", "middle", "to", "lower"]),
        e("pneumonia", None, None, None, "the lower and probably also middle lobe"),
        e("consolidation", ["minimal"], ["left", "right"], None, "the lung bases"), e("fracture", None, ["right"]),
    ])  # fmt: skip
    for i, place in enumerate(POST_LOCATIONS):
        pair(
            "post_location",
            [e("atelectasis", None, LOCATIONS[i])],
            [e("lung opacity", LEVEL_LISTS[i], None, None, place)],
        )
    pair("not_in_json", [edema], [pneumonia], known=({}, gone))

    # Which study is earlier.
    day = (21500101, 21500101)
    pair("reference_later", [edema], [pneumonia], dates=(21500301, 21500101))
    pair("tied", [edema], [pneumonia], dates=day)
    pair("past_midnight", [edema], [pneumonia], dates=day, times=("5436.0", "93014.531"))
    pair("past_midnight_reversed", [edema], [pneumonia], dates=day, times=("93014.531", "5436.0"))
    pair("before_ten", [edema], [pneumonia], dates=day, times=("93014.531", "101500.0"))
    pair("before_one", [edema], [pneumonia], dates=day, times=("7.0", "54.25"))
    pair("long_fraction", [edema], [pneumonia], dates=day, times=("213014.53100000002", "213014.968"))
    pair("later_day_earlier_hour", [edema], [pneumonia], times=("235959.0", "7.0"))
    pair("empty_time_same_day", [edema], [pneumonia], dates=day, times=("", "101500.0"))
    pair("empty_time_other_day", [edema], [pneumonia], times=("", "101500.0"))
    draft.ask(draft.rows[0].main, draft.rows[0].main, "same_study", text=answer((), ["pneumonia"]))
    draft.ask(draft.rows[0].main, draft.rows[1].reference, "other_patient")
    pair("not_in_metadata", [edema], [pneumonia], known=({"in_metadata": False}, {}))
    subject = draft.patient()
    three = [draft.study(subject, [one], 21500101 + 100 * i) for i, one in enumerate((edema, pneumonia, e("hernia")))]
    draft.ask(three[2], three[0], "crossing_splits", "skips_a_study", split="test")
    draft.ask(three[1], three[0], "crossing_splits", split="train")

    # Images.
    for trap, pictures in (
        ("two_pa", (PA, PA)), ("pa_and_lateral", (LATERAL, PA)), ("pa_and_ap", (AP, PA)), ("ap_only", (AP,)),
        ("lateral_only", (LATERAL,)), ("empty_view", (("", "ok"),)), ("missing_jpeg", (("PA", "missing"),)),
        ("truncated_jpeg", (("PA", "truncated"),)), ("one_of_two_missing", (("PA", "missing"), PA)),
    ):  # fmt: skip
        pair(trap, [edema], [pneumonia], pictures=((PA,), pictures))
        pair(trap, [edema], [pneumonia], pictures=(pictures, (PA, LATERAL)))


def add_ordinary(draft: Draft) -> None:
    """A patient with two to four random studies and a row for all but the first."""
    rng, subject, earlier = draft.rng, draft.patient(), []
    for i in range(rng.randint(2, 4)):
        names = set(rng.choices(list(COMMON), list(COMMON.values()), k=rng.randint(0, 5)))
        findings = [random_entity(rng, name) for name in NAMES if name in names]
        denied = [name for name in rng.sample(NAMES, rng.randint(0, 4)) if name not in names]
        time = f"{rng.randrange(24) * 10000 + rng.randrange(60) * 100 + rng.randrange(60)}.{rng.choice((0, 531, 25))}"
        pictures = rng.choice(((PA,), (PA,), (PA, LATERAL), (PA, PA), (AP,), (AP, LATERAL)))
        date = 21500101 + 10000 * i + 100 * rng.randrange(12) + rng.randrange(28)
        study = draft.study(subject, findings, date, time, denied=denied, pictures=pictures)
        if earlier:
            draft.ask(study, rng.choice(earlier))
        earlier.append(study)
