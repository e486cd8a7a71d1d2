"""What people type, what it means, and how it is written down."""

import pytest

from instructx2x.errors import InstructionError
from instructx2x.instructions import Edit, Operation, canonical, parse, render

ADD, REMOVE, CHANGE = Operation


@pytest.mark.parametrize(
    "text",
    [
        "Add the finding of edema.",
        "Add the findings of pleural effusion and cardiomegaly.",
        "Add the findings of edema, pneumonia and consolidation.",
        "Remove the finding of atelectasis.",
        "Change the level of pleural effusion from small to moderate.",
        "Change the level of left pleural effusion from small to moderate.",
        "Change the level of edema to moderate to severe.",
        "Change the level of edema from moderate to severe to mild.",
        "Change the level of edema from mild to moderate-to-severe.",
        "Add the finding of mild left pleural effusion.",
        "Add the finding of right lower lobe consolidation.",
        "Add the finding of left upper lung opacity.",
        "Add the finding of left middle pneumonia. Remove the finding of right middle lobe pneumonia.",
        "Add the finding of bilateral basal atelectasis.",
        "Add the finding of enlargement of the cardiac silhouette.",
        "Add the finding of tortuosity of the descending aorta.",
        "Add the finding of left blunting of the costophrenic angle.",
        "Add the finding of edema. Remove the finding of hernia. Add the finding of scoliosis.",
    ],
)
def test_canonical_sentences_stay(text):
    assert canonical(text) == text


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (
            "add a small left pleural effusion and remove the cardiomegaly",
            "Add the finding of small left pleural effusion. Remove the finding of cardiomegaly.",
        ),
        ("ADD EDEMA REMOVE HERNIA", "Add the finding of edema. Remove the finding of hernia."),
        ("add edema; add effusion", "Add the findings of edema and pleural effusion."),
        ("add oedema, haematoma, and chf", "Add the findings of edema, hematoma and heart failure."),
        ("please get rid of the edema in the patient’s chest x-ray!", "Remove the finding of edema."),
        ("take away\nthe pulmonary  oedema\t", "Remove the finding of edema."),
        ("ａｄｄ　ｅｄｅｍａ", "Add the finding of edema."),
        (
            "add edema to the image, and clear the lungs of opacities",
            "Add the finding of edema. Remove the finding of lung opacity.",
        ),
        (
            "change the level of effusion small to large and edema from mild to severe",
            "Change the level of pleural effusion from small to large. Change the level of edema from mild to severe.",
        ),
        ("worsen the edema to severe", "Change the level of edema to severe."),
        (
            "increase the left effusion from small to large",
            "Change the level of left pleural effusion from small to large.",
        ),
        (
            "change the small left effusion to moderate",
            "Change the level of left pleural effusion from small to moderate.",
        ),
        (
            "change effusion to large from small on the left",
            "Change the level of left pleural effusion from small to large.",
        ),
    ],
)
def test_what_people_type(typed, expected):
    assert canonical(typed) == expected


@pytest.mark.parametrize(
    ("typed", "side", "zone"),
    [
        ("left-sided effusion", "left", None),
        ("effusion on the left", "left", None),
        ("effusion, left", "left", None),
        ("effusion (right side)", "right", None),
        ("effusion in both lungs", "bilateral", None),
        ("left and right effusion", "bilateral", None),
        ("effusion on the right, at the base", "right", "basal"),
        ("consolidation in the right lower lobe", "right", "lower"),
        ("RLL consolidation", "right", "lower"),
        ("consolidation of the left mid lung zone", "left", "middle"),
        ("consolidation in the lingula", "left", "middle"),
        ("opacity at the left lung base", "left", "basal"),
        ("opacity at the lung bases", "bilateral", "basal"),
        ("bibasilar atelectasis", "bilateral", "basal"),
        ("pneumothorax in the apical region", None, "apical"),
        ("left apicolateral pneumothorax", "left", "apical"),
        ("opacity behind the heart", None, "retrocardiac"),
        ("right hilar opacity", "right", "perihilar"),
        ("blunting of the left costophrenic angle", "left", None),
        ("fracture of a right rib", "right", None),
    ],
)
def test_places(typed, side, zone):
    (edit,) = parse(f"add {typed}")
    assert (edit.side, edit.zone) == (side, zone)


@pytest.mark.parametrize(
    ("typed", "places"),
    [
        ("left upper and right lower lobe consolidation", [("left", "upper"), ("right", "lower")]),
        ("left upper and lower lobe consolidation", [("left", "upper"), ("left", "lower")]),
        ("consolidation in the upper and lower lobes", [(None, "upper"), (None, "lower")]),
        ("consolidation on the left and in the right lower lobe", [("left", None), ("right", "lower")]),
        ("mid to lower lung opacity", [(None, "middle"), (None, "lower")]),
    ],
)
def test_several_places_of_one_finding_are_several_edits(typed, places):
    assert [(edit.side, edit.zone) for edit in parse(f"add {typed}")] == places


def test_a_place_belongs_to_the_finding_beside_it():
    assert parse("add left effusion and edema and consolidation in the right upper lobe") == (
        Edit(ADD, "pleural effusion", side="left"),
        Edit(ADD, "edema"),
        Edit(ADD, "consolidation", side="right", zone="upper"),
    )
    assert parse("add mild left and severe right effusion") == (
        Edit(ADD, "pleural effusion", side="left", level="mild"),
        Edit(ADD, "pleural effusion", side="right", level="severe"),
    )


@pytest.mark.parametrize(
    "text",
    [
        "add edema and left",
        "add left and edema",
        "add effusion left edema",
        "add effusion on the left and upper and lower lobe pneumonia",
    ],
)
def test_a_place_between_two_findings_is_never_guessed(text):
    with pytest.raises(InstructionError, match="not clear which finding"):
        parse(text)


@pytest.mark.parametrize(
    ("typed", "finding"),
    [
        ("pulmonary edema", "edema"),
        ("pulmonary vascular congestion", "vascular congestion"),
        ("hilar vascular congestion", "hilar congestion"),
        ("enlarged cardiac silhouette", "enlargement of the cardiac silhouette"),
        ("enlarged heart", "cardiomegaly"),
        ("hypertensive heart disease", "hypertensive heart disease"),
        ("tortuous aorta", "tortuosity of the thoracic aorta"),
        ("tortuosity of descending aorta", "tortuosity of the descending aorta"),
        ("volume loss", "atelectasis"),
        ("airspace opacification", "lung opacity"),
    ],
)
def test_the_longest_phrase_wins(typed, finding):
    assert parse(f"add the {typed}") == (Edit(ADD, finding),)


@pytest.mark.parametrize(
    ("typed", "level"),
    [
        ("mildly", "mild"),
        ("moderately", "moderate"),
        ("minimally", "minimal"),
        ("small", "small"),
        ("mild to moderate", "mild to moderate"),
        ("mild-to-moderate", "mild to moderate"),
        ("moderate–to–severe", "moderate to severe"),
        ("small moderate", "small to moderate"),
        ("moderate-sized", "moderate"),
        ("tiny", "trace"),
    ],
)
def test_levels(typed, level):
    assert parse(f"add {typed} effusion") == (Edit(ADD, "pleural effusion", level=level),)


@pytest.mark.parametrize(
    ("scale", "readings"),
    [
        ("mild to moderate to severe", ["mild to moderate-to-severe", "mild-to-moderate to severe"]),
        ("small to moderate to large", ["small to moderate-to-large", "small-to-moderate to large"]),
    ],
)
def test_an_ambiguous_scale_says_how_to_write_it(scale, readings):
    with pytest.raises(InstructionError) as error:
        parse(f"Change the level of effusion from {scale}.")
    for reading in readings:
        sentence = f"Change the level of pleural effusion from {reading}."
        assert f'"{sentence}"' in str(error.value)
        (edit,) = parse(sentence)
        assert f"{edit.from_level} to {edit.level}" == scale
        assert render([edit]) == sentence


def test_the_order_stays_and_repetitions_go():
    text = "add edema. remove hernia. add edema, pneumonia, edema"
    assert parse(text) == (Edit(ADD, "edema"), Edit(REMOVE, "hernia"), Edit(ADD, "pneumonia"))


@pytest.mark.parametrize(
    "text",
    [
        "add edema, remove edema",
        "add effusion. remove the left effusion.",
        "add bilateral effusion, remove right effusion",
        "add left lower lobe pneumonia, remove left basal pneumonia",
        "add edema. change edema from mild to severe",
        "remove edema. change edema to severe",
        "add mild edema and severe edema",
        "change edema to mild. change edema to severe",
    ],
)
def test_contradictions(text):
    with pytest.raises(InstructionError, match=r"both to|twice"):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "add left effusion and remove right effusion",
        "add left upper lobe pneumonia, remove left lower lobe pneumonia",
        "add small left effusion and large right effusion",
    ],
)
def test_different_places_do_not_contradict(text):
    assert len(parse(text)) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        (" . ,\n", "empty"),
        ("and and and", "empty"),
        ("add", "names no finding"),
        ("add left", "names no finding"),
        ("change", "names no finding"),
        ("pleural effusion", "begin the sentence with Add"),
        ("add edema. effusion.", "begin the sentence with Add"),
        ("add plural effusion", "nearest known term is 'pleural effusion'"),
        ("add cardiomegally", "'cardiomegaly'"),
        ("add pneumonitis", "not among the findings"),
        ("ad edema", "nearest known term is 'add'"),
        ("add pericardial effusion", "'pericardial effusion' is not among the findings"),
        ("add lefft effusion", "'left'"),
        ("add edema 😀", "sign '😀'"),
        ("add no edema", "turns the meaning round"),
        ("no pleural effusion", "turns the meaning round"),
        ("don’t add edema", "says what not to do"),
        ("add edema without effusion", "turns the meaning round"),
        ("add edema or effusion", "leaves the choice open"),
        ("add pneumonia with effusion", "write 'and'"),
        ("remove all but the edema", "could except"),
        ("add edema in place of effusion", "'place' is not understood"),
        ("add effusion from small to moderate", '"Change the level of'),
        ("remove effusion to mild", '"Change the level of'),
        ("change edema to pneumonia", "remove the one and add the other"),
        ("add both edema and effusion", "bilateral"),
        ("add acute edema", "is no severity"),
        ("add increasing effusion", "is no severity"),
        ("increase the effusion", "does not say how far"),
        ("change edema", "does not say how far"),
        ("worsen edema from severe to mild", "no way to worsen"),
        ("change edema from mild", "does not say how far"),
        ("change edema from mild to mild", "stays mild"),
        ("change mild edema from severe to moderate", "mild and severe"),
        ("add small severe effusion", "is no level"),
        ("add left cardiomegaly", "Cardiomegaly has no side"),
        ("add scoliosis at the right base", "Scoliosis has no side"),
        ("add upper lobe thymoma", "Thymoma has no zone"),
        ("add severe fracture", "Fracture has no level"),
        ("add left right effusion", "two sides"),
        ("add left effusion on the right", "two sides"),
        ("add edema " * 250, "2,500 characters"),
        (None, "not NoneType"),
    ],
)
def test_errors_say_what_is_wrong(text, said):
    with pytest.raises(InstructionError) as error:
        parse(text)
    assert said in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        {"finding": "edemas"},
        {"finding": None},
        {"operation": "replace"},
        {"side": "Left"},
        {"side": ["left"]},
        {"zone": "lobe"},
        {"level": "mildly"},
        {"from_level": "mild"},
        {"finding": "cardiomegaly", "side": "left"},
        {"operation": CHANGE},
        {"operation": CHANGE, "level": "mild", "from_level": "mild"},
    ],
)
def test_an_invalid_edit_cannot_be_made(arguments):
    with pytest.raises(InstructionError):
        Edit(**{"operation": ADD, "finding": "edema", **arguments})


def test_an_edit_can_be_made_from_plain_words():
    assert Edit("change", "edema", level="mild") == Edit(CHANGE, "edema", level="mild")
    assert Edit("change", "edema", level="mild").operation is CHANGE


def test_nothing_cannot_be_rendered():
    with pytest.raises(InstructionError):
        render([])
    with pytest.raises(InstructionError):
        render([Edit(ADD, "edema"), Edit(REMOVE, "edema")])
