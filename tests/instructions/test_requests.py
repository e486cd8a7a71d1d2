"""How radiologists, residents and researchers ask, by kind: what is read, what is refused, what is offered."""

import re

import pytest

from instructx2x.errors import InstructionError
from instructx2x.instructions import canonical

EFFUSION = "finding of left pleural effusion."


def refusal(text):
    """The message, and the sentences in it that can be pasted."""
    with pytest.raises(InstructionError) as error:
        canonical(text)
    message = str(error.value)
    assert len(message.splitlines()) == 1
    offered = re.findall(r'"([^"]*)"', message)
    assert [canonical(sentence) for sentence in offered] == offered
    return message, offered


@pytest.mark.parametrize(
    "text",
    [
        "show me a left effusion",
        "give her a left effusion",
        "I want a left effusion please",
        "I'd like to see a left effusion",
        "can I have a left effusion?",
        "could you please add a left effusion?",
        "would you mind adding a left effusion",
        "let's insert a left effusion",
        "imagine this patient with a left effusion",
        "what if the patient had a left effusion?",
        "what would this look like with a left effusion?",
        "how would this chest look if there was a left effusion",
        "make it look like there is a left effusion",
        "make him have a left effusion",
        "edit this image so that it shows a left effusion",
        "modify the x-ray to add a left effusion",
        "a left effusion should be added",
        "put fluid in the left pleural space",
        "add a left-sided effusion",
        "add L effusion",
        "add an effusion on the L.",
        "add lt pl effusion",
        "add an effusion on the left hand side",
        "1. add a left effusion",
        "add left_effusion",
        "add left pleural ef\u00adfusion\u200b",
        "“Add” the ‘left’ effusion…",
    ],
)
def test_ways_to_ask_for_a_finding(text):
    assert canonical(text) == f"Add the {EFFUSION}"


@pytest.mark.parametrize(
    "text",
    [
        "get rid of the left effusion",
        "take the left effusion away",
        "make the left effusion disappear",
        "let the left effusion go away",
        "clear the left effusion up",
        "I want the left effusion gone",
        "the left effusion should be removed",
        "show me the same patient without the left effusion",
        "what would this look like w/o the left effusion?",
        "what if there was no left effusion",
        "what if he didn't have a left effusion",
        "what happens if the left effusion is removed",
        "imagine no left effusion",
        "as if the left effusion had resolved",
        "show resolution of the left effusion",
        "without the left effusion",
    ],
)
def test_ways_to_ask_for_a_removal(text):
    assert canonical(text) == f"Remove the {EFFUSION}"


@pytest.mark.parametrize(
    "text",
    [
        "make the left effusion large",
        "I want the left effusion to be large",
        "the left effusion should be large",
        "increase the left effusion to large",
        "let the left effusion grow to large",
        "turn the left effusion up to large",
        "progress the left effusion to large",
        "set left effusion = large",
        "show progression of the left effusion to large",
        "lower the left effusion to large",
    ],
)
def test_ways_to_ask_for_a_level(text):
    assert canonical(text) == "Change the level of left pleural effusion to large."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("take the edema from mild to severe", "Change the level of edema from mild to severe."),
        ("edema isn't enough: change edema mild -> severe", None),
        ("change edema mild → severe", "Change the level of edema from mild to severe."),
        ("turn the mild edema into severe edema", "Change the level of edema from mild to severe."),
        (
            "change the left effusion to small and the right one to large",
            "Change the level of left pleural effusion to small. Change the level of right pleural effusion to large.",
        ),
        (
            "change the left effusion to small, the right to large and the edema to mild",
            "Change the level of left pleural effusion to small. Change the level of right pleural effusion to large. "
            "Change the level of edema to mild.",
        ),
        (
            "Add edema. Then remove the hernia. Finally, make the pneumonia severe.",
            "Add the finding of edema. Remove the finding of hernia. Change the level of pneumonia to severe.",
        ),
        (
            "remove the edema, and I want a left effusion",
            f"Remove the finding of edema. Add the {EFFUSION}",
        ),
        (
            "add edema but remove the hernia",
            "Add the finding of edema. Remove the finding of hernia.",
        ),
        (
            "what if there was no effusion and no edema",
            "Remove the findings of pleural effusion and edema.",
        ),
    ],
)
def test_several_sentences_and_levels(text, expected):
    if expected is None:
        refusal(text)
    else:
        assert canonical(text) == expected


SMALL_LARGE = "Add the findings of small left pleural effusion and large right pleural effusion."


@pytest.mark.parametrize(
    "text",
    [
        "add small left and large right effusions",
        "add a small left effusion and a large right effusion",
        "add a small effusion on the left and a large one on the right",
        "add an effusion, small on the left and large on the right",
        "add bilateral effusions, small on the left and large on the right",
        "add b/l effusions (small on the left, large on the right)",
        "add effusions on both sides, small on the left and large on the right",
        "add effusions: small left, large right",
    ],
)
def test_a_level_for_each_side(text):
    assert canonical(text) == SMALL_LARGE


@pytest.mark.parametrize(
    "text",
    [
        "add bilateral effusions, larger on the right",
        "add bilateral effusions, right greater than left",
        "add bilateral effusions, R>L",
        "add bilateral effusions, left less than right",
        "bilateral effusions, smaller on the left and larger on the right",
    ],
)
def test_comparisons_of_sides_are_refused_with_a_level_for_each(text):
    assert refusal(text)[1] == [SMALL_LARGE]


def test_a_side_of_two_that_is_not_described():
    message, offered = refusal("add bilateral effusions, large on the left")
    assert "both sides" in message
    assert offered == ["Add the findings of large left pleural effusion and right pleural effusion."]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("sm R PTX", "small right pneumothorax"),
        ("mod b/l effusions", "moderate bilateral pleural effusion"),
        ("mid-sized effusion", "moderate pleural effusion"),
        ("RLL PNA", "right lower lobe pneumonia"),
        ("SPN in the LUL", "left upper lobe nodule"),
        ("coin lesion", "nodule"),
        ("LLL ATX", "left lower lobe atelectasis"),
        ("plate-like atelectasis at the left base", "left basal atelectasis"),
        ("collapsed right middle lobe", "right middle lobe atelectasis"),
        ("CHF", "heart failure"),
        ("big heart", "cardiomegaly"),
        ("large heart enlargement", "large cardiomegaly"),
        ("mildly enlarged heart", "mild cardiomegaly"),
        ("infiltrate in the right mid zone", "right middle lung opacity"),
        ("GGO bilat", "bilateral lung opacity"),
        ("ground-glass opacities", "lung opacity"),
        ("patchy airspace disease", None),
        ("hazy opacity", "lung opacity"),
        ("blunted L CP angle", "left blunting of the costophrenic angle"),
        ("costophrenic blunting on the right", "right blunting of the costophrenic angle"),
        ("interstitial edema", "edema"),
        ("unfolded aorta", "tortuosity of the thoracic aorta"),
        ("rib fx on the left", "left fracture"),
        ("mild/moderate edema", "mild to moderate edema"),
    ],
)
def test_what_radiologists_call_findings(typed, expected):
    if expected:
        assert canonical(f"add {typed}") == f"Add the finding of {expected}" + "."
    else:
        refusal(f"add {typed}")


@pytest.mark.parametrize(
    "place",
    [
        "on the {} of the film",
        "on the {} side of the image",
        "to the {} of the picture",
        "on the {} side of this x-ray",
        "on the {}-hand side of the screen",
        "on the {} in the radiograph",
        "on the image {}",
        "on the image's {}",
        "on the film's {} side",
        "in the {} image",
        "in the {} half of the picture",
        "at the viewer's {}",
        "on the reader's {} side",
        "on my {}",
        "screen-{}",
        "on the {} as you look at it",
        "on the {} when looking at the film",
        "in the {} corner",
    ],
)
@pytest.mark.parametrize("side", ["left", "right"])
def test_sides_of_the_image_are_refused(place, side):
    message, offered = refusal(f"add an effusion {place.format(side)}")
    other = {"left": "right", "right": "left"}[side]
    assert "patient's" in message
    assert offered == [f"Add the finding of {each} pleural effusion." for each in (other, side)]


@pytest.mark.parametrize(
    "text",
    [
        "add a left pleural effusion to the image",
        "add a left effusion in the x-ray",
        "add an effusion on the patient's left in the image",
        "add an effusion on the left side of the patient",
        "add an effusion in the left lung of this film",
        "in this image, add a left effusion",
    ],
)
def test_the_patients_sides_are_read_where_an_image_is_named(text):
    assert canonical(text) == f"Add the {EFFUSION}"


@pytest.mark.parametrize(
    ("text", "offered"),
    [
        ("worsen the left effusion", "Change the level of left pleural effusion to large."),
        ("improve the right pneumothorax", "Change the level of right pneumothorax to small."),
        ("worsen the pneumonia in the RLL", "Change the level of right lower lobe pneumonia to severe."),
        ("less edema", "Change the level of edema to mild."),
        ("bigger left nodule", "Change the level of left nodule to large."),
        ("make the edema much more severe", "Change the level of edema to severe."),
        ("slightly increase the left effusion", "Change the level of left pleural effusion to large."),
        ("increase the left effusion slightly", "Change the level of left pleural effusion to large."),
        ("worsen the large left effusion", "Change the level of left pleural effusion from large to massive."),
        ("increase the effusion from small", "Change the level of pleural effusion from small to large."),
        ("simulate worsening of the edema", "Change the level of edema to severe."),
        ("make the heart bigger", "Change the level of cardiomegaly to severe."),
        ("decrease the heart size", "Change the level of cardiomegaly to mild."),
        ("make the heart normal", "Remove the finding of cardiomegaly."),
        ("increase the effusion by 20%", "Change the level of pleural effusion to large."),
        ("reduce the left effusion by half", "Change the level of left pleural effusion to small."),
        ("make the left effusion twice as large", "Change the level of left pleural effusion to large."),
        ("double the edema", "Change the level of edema to severe."),
        ("remove some of the left effusion", "Change the level of left pleural effusion to small."),
        ("remove 50% of the edema", "Change the level of edema to mild."),
        ("partially remove the edema", "Change the level of edema to mild."),
        ("remove the edema a bit", "Change the level of edema to mild."),
        ("add a bit of edema", "Add the finding of mild edema."),
        ("change edema from none to mild", "Add the finding of mild edema."),
        ("reduce the left effusion to none", f"Remove the {EFFUSION}"),
    ],
)
def test_what_does_not_say_how_far_is_offered_with_a_level(text, offered):
    message, sentences = refusal(text)
    assert sentences == [offered]
    assert re.search("level|part|cardiomegaly", message)


@pytest.mark.parametrize(
    ("text", "why", "offered"),
    [
        ("add a 2 cm nodule in the RUL", "sizes", ["Add the finding of right upper lobe nodule."]),
        ("add a 2.5 x 3 cm mass", "sizes", ["Add the finding of mass."]),
        ("add 3 nodules on the left", "number", ["Add the finding of left nodule."]),
        ("add several nodules", "number", ["Add the finding of nodule."]),
        ("add a fracture of the 5th right rib", "single rib", ["Add the finding of right fracture."]),
        ("add acute edema", "no severity", ["Add the finding of edema."]),
        ("add patchy consolidation", "patchy", ["Add the finding of consolidation."]),
        ("add bacterial pneumonia", "cause", ["Add the finding of pneumonia."]),
        ("add a peripheral opacity", "no place", ["Add the finding of lung opacity."]),
        ("add an opacity left of the heart", "organ", ["Add the finding of left lung opacity."]),
        ("add left scoliosis", "no side", ["Add the finding of scoliosis."]),
        ("add edema with an effusion", "'and'", ["Add the findings of edema and pleural effusion."]),
        ("add edema to the left effusion", "belong together", ["Add the finding of edema."]),
        ("left effusion", "Nothing says what to do", [f"Add the {EFFUSION}"]),
        ("edema from mild to severe", "Nothing says", ["Change the level of edema from mild to severe."]),
        ("treat the pneumonia", "no edit", ["Remove the finding of pneumonia."]),
        ("drain the left effusion", "no edit", [f"Remove the {EFFUSION}"]),
        (
            "move the left effusion to the right",
            "not moved",
            ["Remove the finding of left pleural effusion. Add the finding of right pleural effusion."],
        ),
        (
            "replace the effusion with a pneumothorax",
            "remove the one",
            ["Remove the finding of pleural effusion. Add the finding of pneumothorax."],
        ),
        (
            "add edema instead of the effusion",
            "two edits",
            ["Add the finding of edema. Remove the finding of pleural effusion."],
        ),
        ("add COPD", "emphysema", ["Add the finding of emphysema."]),
        ("add a tumour on the left", "diagnosis", ["Add the finding of left nodule.", "Add the finding of left mass."]),
        ("add a lung lesion", "nodule or a mass", ["Add the finding of nodule.", "Add the finding of mass."]),
        (
            "add a collapsed left lung",
            "atelectasis or pneumothorax",
            ["Add the finding of left atelectasis.", "Add the finding of left pneumothorax."],
        ),
        ("add PE", "embolism", ["Add the finding of pleural effusion.", "Add the finding of edema."]),
        ("remove both effusions", "both", None),
        ("add a unilateral effusion", "which side", None),
    ],
)
def test_what_is_refused_is_offered_without_it(text, why, offered):
    message, sentences = refusal(text)
    assert why in message
    assert sentences == offered if offered else len(sentences) == 2


@pytest.mark.parametrize(
    ("text", "offered"),
    [
        ("don't add edema", []),
        ("do not change the heart", []),
        ("add no edema", []),
        ("no edema", ["Remove the finding of edema."]),
        ("add edema but no effusion", ["Add the finding of edema."]),
        ("add edema without an effusion", ["Add the finding of edema."]),
        ("remove the left but not the right effusion", [f"Remove the {EFFUSION}"]),
        ("remove the edema and keep the effusion", ["Remove the finding of edema."]),
        ("keep the effusion and remove the edema", ["Remove the finding of edema."]),
        ("add edema if there is an effusion", ["Add the finding of edema."]),
    ],
)
def test_what_turns_the_meaning_round_is_never_done(text, offered):
    assert refusal(text)[1] == offered


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        (
            "not among the findings",
            [
                "fibrosis",
                "TB",
                "ILD",
                "pneumoperitoneum",
                "a pericardial effusion",
                "empyema",
                "hemothorax",
                "subcutaneous emphysema",
                "pulmonary embolism",
                "pneumonitis",
            ],
        ),
        ("device", ["a pacemaker", "an ETT", "NGT", "a central line", "a right chest tube", "sternotomy wires"]),
        ("part of the body", ["a diaphragm", "a clavicle fracture", "a liver mass"]),
        ("not understood", ["xyzzy", "a banana effusion", "chylous effusion", "foo"]),
    ],
)
def test_what_cannot_be_edited_is_never_taken_for_something_else(kind, texts):
    for text in texts:
        message, offered = refusal(f"add {text}")
        assert kind in message and not offered and "nearest" not in message


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("make him older", "patient's"),
        ("change the sex", "patient's"),
        ("increase the contrast", "about the image"),
        ("rotate the image", "about the image"),
        ("remove the L marker", "about the image"),
        ("is there an effusion?", "asks about"),
        ("where is the nodule", "asks about"),
        ("can you see edema", "asks about"),
        ("make it normal", "name each"),
        ("remove everything", "name each"),
        ("remove everything but the cardiomegaly", "name each"),
        ("add nothing", "nothing to do"),
        ("remove it", "names no finding"),
        ("worsen the fracture", "no level"),
    ],
)
def test_what_is_no_edit_of_a_finding(text, why):
    message, _ = refusal(text)
    assert why in message and "nearest" not in message


@pytest.mark.parametrize(
    ("text", "name", "offered"),
    [
        ("add plueral efusion on the left", "pleural effusion", f"Add the {EFFUSION}"),
        ("add cardiomegally", "cardiomegaly", "Add the finding of cardiomegaly."),
        ("add atelectesis in the left loewr lobe", "atelectasis", "Add the finding of left lower lobe atelectasis."),
        ("remvoe the edema", "remove", "Remove the finding of edema."),
        ("add an enlarged hart", "cardiomegaly", "Add the finding of cardiomegaly."),
        (
            "blunting of the left costophrnic angle",
            "blunting of the costophrenic angle",
            "Add the finding of left blunting of the costophrenic angle.",
        ),
    ],
)
def test_slips_of_the_keys(text, name, offered):
    message, sentences = refusal(text)
    assert f"nearest known term is '{name}'" in message and sentences == [offered]


@pytest.mark.parametrize(
    "text",
    ["Füge Ödem hinzu", "Ajouter un pneumothorax a gauche", "Agregue un derrame pleural izquierdo",
     "aggiungi versamento pleurico sinistro", "왼쪽 흉막 삼출", "添加左侧胸腔积液。", "добавь отёк", "أضف انصباب"],
)  # fmt: skip
def test_other_languages(text):
    message, offered = refusal(text)
    assert "English" in message and not offered
