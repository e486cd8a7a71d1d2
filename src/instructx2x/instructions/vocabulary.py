"""The words of the instruction language: findings, levels, sides, zones, verbs and small words.

Everything that is understood is listed here, in lower case and without articles, because the reader drops those
before it matches the longest phrase on word boundaries. What is not listed is an error, never noise. Words that are
known but refused, each with its reason, stand in refusals.py; turns of everyday speech in frames.py.
Findings, levels and locations are those of method section 5.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class Operation(StrEnum):
    """What an edit does to its finding."""

    ADD = "add"
    REMOVE = "remove"
    CHANGE = "change"


@dataclass(frozen=True)
class Finding:
    """A finding, how people call it, and what can be said about it.

    Attributes:
        name: the canonical name, with articles, as it stands in canonical sentences.
        synonyms: other phrases for it; `*` stands for an optional side ("fracture of * rib").
        has_side: whether left, right and bilateral make sense for it.
        has_zone: whether a zone of the lung makes sense for it.
        has_level: whether a severity or size makes sense for it.
        lobar: whether its upper and lower zones are spoken as lobes ("left lower lobe pneumonia").
        sized: whether it is called small, moderate or large rather than mild, moderate or severe.
    """

    name: str
    synonyms: tuple[str, ...] = ()
    has_side: bool = True
    has_zone: bool = True
    has_level: bool = True
    lobar: bool = False
    sized: bool = False

    @property
    def usual_levels(self) -> tuple[str, str, str]:
        """A low, a middle and a high level, in the words that are usual for it."""
        return ("small", "moderate", "large") if self.sized else ("mild", "moderate", "severe")


def _lung(name: str, *synonyms: str, sized: bool = False) -> Finding:
    """A finding of the lung's own tissue."""
    return Finding(name, synonyms, lobar=True, sized=sized)


def _midline(name: str, *synonyms: str, sized: bool = False) -> Finding:
    """A finding of the heart, the middle of the chest or the whole body: it has neither side nor zone."""
    return Finding(name, synonyms, has_side=False, has_zone=False, sized=sized)


def _joined(first: str, second: str) -> tuple[str, ...]:
    """Every phrase of the first list with every phrase of the second; commas divide a list."""
    return tuple(f"{one} {other}" for one in first.split(", ") for other in second.split(", "))


# fmt: off
_PAPER = (
    Finding(
        "pleural effusion",
        ("pleural effusions", "effusion", "effusions", "pleural fluid", *_joined("pl", "effusion, effusions, eff"),
         "pleural eff", "fluid in * pleural space", "fluid in * pleural cavity", "fluid around * lung"),
        sized=True,
    ),
    _lung(
        "atelectasis", "atelectases", "atelectatic change", "atelectatic changes", "volume loss", "loss of volume",
        "collapse", "lobar collapse", "collapsed lobe", "atx",
        *_joined(
            "plate like, platelike, plate, linear, band like, bandlike, discoid, subsegmental, segmental, lobar, "
            "dependent, passive, compressive, rounded",
            "atelectasis",
        ),
    ),
    _midline(
        "cardiomegaly", "cardiac enlargement", "enlarged cardiac shadow", "enlargement of heart", "heart enlargement",
        *_joined("enlarged, big, large", "heart"),
    ),
    _midline(
        "enlargement of the cardiac silhouette", "enlargement of heart silhouette",
        "enlargement of cardiomediastinal silhouette",
        *_joined("cardiac silhouette, cardiomediastinal silhouette, heart silhouette", "enlargement"),
        *_joined("enlarged, big, large", "cardiac silhouette, cardiomediastinal silhouette, heart silhouette"),
    ),
    _lung(
        "edema", "oedema",
        *_joined("pulmonary, lung, interstitial, alveolar", "edema, oedema"),
        *_joined("pulm, interstitial pulmonary, alveolar pulmonary, cardiogenic, cardiogenic pulmonary", "edema"),
    ),
    _midline("hernia", "hernias", "hiatal hernia", "hiatus hernia", "hiatal hernias", sized=True),
    Finding(
        "vascular congestion",
        ("pulmonary vascular congestion", "pulmonary congestion", "pulmonary venous congestion", "venous congestion",
         "lung congestion", "pulm vascular congestion", "vascular engorgement", "pulmonary vascular engorgement",
         "congestion of pulmonary vessels", "congested pulmonary vessels", "engorged pulmonary vessels"),
    ),
    Finding(
        "hilar congestion",
        ("hilar vascular congestion", "congestion of * hilum", "congested * hilum", "hilar engorgement"),
        has_zone=False,
    ),
    Finding(
        "pneumothorax",
        ("pneumothoraces", "pneumothoraxes", "ptx", "ptxs", "pnx", "air in * pleural space"),
        sized=True,
    ),
    _midline(
        "heart failure", "chf", "ccf", "hf", "congestive heart failure", "congestive cardiac failure",
        "congestive failure", "cardiac failure", "cardiac decompensation", "decompensated heart failure",
        "left heart failure", "left sided heart failure", "left ventricular failure", "lvf",
    ),
    Finding(
        "lung opacity",
        (
            "lung opacities", "opacity", "opacities", "opacification", "opacifications", "lung opacification",
            "pulmonary opacity", "pulmonary opacities", "pulmonary opacification", "infiltrate", "infiltrates",
            "infiltration", "infiltrations", *_joined("lung, pulmonary", "infiltrate, infiltrates"), "ggo", "ggos",
            "haziness", "haze", "ground glass", "ground glass change", "ground glass changes", "shadowing",
            "airspace disease", "air space disease",
            *_joined("airspace, air space", "opacity, opacities, opacification, infiltrate, infiltrates"),
            *_joined("ground glass, hazy, patchy", "opacity, opacities, opacification, infiltrates"),
            "groundglass opacity", "groundglass opacities", "alveolar infiltrates", "airspace shadowing",
        ),
    ),
    _lung("pneumonia", "pneumonias", "pna", "lobar pneumonia", "bronchopneumonia", "pneumonic consolidation"),
    _midline("tortuosity of the descending aorta", "tortuous descending aorta", "descending aortic tortuosity",
             "tortuous descending thoracic aorta"),
    _midline("scoliosis", "scoliotic spine", "scoliotic curvature", "thoracic scoliosis", "curvature of spine",
             "spinal curvature", "curved spine"),
    _midline("gastric distention", "gastric distension", "distended stomach", "dilated stomach",
             *_joined("stomach", "distention, distension"),
             *_joined("distention, distension", "of stomach")),
    _midline("hypoxemia", "hypoxaemia"),
    _midline("hypertensive heart disease"),
    Finding("hematoma", ("hematomas", "haematoma", "haematomas"), sized=True),
    _midline("tortuosity of the thoracic aorta", "tortuous thoracic aorta", "thoracic aortic tortuosity",
             "tortuous aorta", "aortic tortuosity", "tortuosity of aorta", "unfolded aorta", "aortic unfolding",
             "unfolding of aorta", "unfolded thoracic aorta"),
    _lung("contusion", "contusions", *_joined("lung, pulmonary", "contusion, contusions")),
    _lung("emphysema", "pulmonary emphysema", "lung emphysema", "emphysematous change", "emphysematous changes",
          "bullous emphysema", "centrilobular emphysema"),
    _lung("granuloma", "granulomas", "granulomata", "granulomatous disease", "calcified granuloma",
          "calcified granulomas", sized=True),
    _lung("calcification", "calcifications"),
    Finding("pleural thickening", ("thickening of * pleura", "thickened * pleura")),
    _midline("thymoma", "thymomas", sized=True),
    Finding(
        "blunting of the costophrenic angle",
        (
            *_joined(
                "blunting of *, blunted *",
                "costophrenic angle, costophrenic angles, costophrenic sulcus, costophrenic sulci, cp angle, "
                "cp angles, cpa",
            ),
            *_joined("costophrenic angle, costophrenic sulcus, costophrenic, cp angle, cpa", "blunting"),
        ),
        has_zone=False,
    ),
    _lung("consolidation", "consolidations", "consol", *_joined("lung, pulmonary", "consolidation, consolidations"),
          "consolidative change", "consolidative changes", "consolidative opacity",
          *_joined("airspace, air space", "consolidation")),
    Finding(
        "fracture",
        ("fractures", "fx", "rib fracture", "rib fractures", "rib fx", "fracture of * rib", "fractures of * ribs",
         "fractured * rib", "fractured * ribs", "broken * rib", "broken * ribs"),
        has_level=False,
    ),
    _midline("pneumomediastinum", "mediastinal air", "air in mediastinum", "mediastinal emphysema",
             "free air in mediastinum"),
    Finding("air collection", ("air collections", "collection of air", "collections of air"), sized=True),
    _lung("infection", "infections", "lung infection", "lung infections", "chest infection", "pulmonary infection"),
)

# Not in the paper's list: small and large round lesions, which experts' boxes exist for.
_EXTENSION = (
    _lung("nodule", "nodules", "spn", "coin lesion", "nodular opacity", "nodular opacities", "nodular lesion",
          *_joined("lung, pulmonary, pulm", "nodule, nodules"),
          *_joined("solitary, solitary pulmonary, solitary lung", "nodule"), sized=True),
    _lung("mass", "masses", "mass lesion", "mass lesions", *_joined("lung, pulmonary", "mass, masses"), sized=True),
)
# fmt: on

PAPER_FINDINGS: tuple[str, ...] = tuple(finding.name for finding in _PAPER)
FINDINGS: MappingProxyType[str, Finding] = MappingProxyType({finding.name: finding for finding in _PAPER + _EXTENSION})

LEVELS: MappingProxyType[str, float] = MappingProxyType(
    {
        "minimal": 1.0,
        "subtle": 1.0,
        "trace": 1.0,
        "small": 2.0,
        "mild": 2.0,
        "minor": 2.0,
        "mild to moderate": 2.5,
        "small to moderate": 2.5,
        "moderate": 3.0,
        "moderate to large": 3.5,
        "moderate to severe": 4.0,
        "large": 4.0,
        "severe": 5.0,
        "massive": 5.0,
    }
)
"""Every level and its rank on the scale of method section 5.4; levels of one rank stay different words."""

LEVEL_SYNONYMS = {
    **dict.fromkeys(("minimally", "slight", "slightly", "very mild", "borderline"), "minimal"),
    **dict.fromkeys(("subtly", "faint"), "subtle"),
    **dict.fromkeys(("tiny", "very small", "minuscule"), "trace"),
    "mildly": "mild",
    **dict.fromkeys(("sm", "smallish"), "small"),
    **dict.fromkeys(
        ("moderately", "mod", "medium", "mid size", "mid sized", "midsize", "midsized", "middle sized"), "moderate"
    ),
    "moderately large": "moderate to large",
    "moderately severe": "moderate to severe",
    **dict.fromkeys(("big", "lg", "lge", "sizable", "sizeable"), "large"),
    **dict.fromkeys(("severely", "marked", "markedly", "very severe", "extremely severe"), "severe"),
    **dict.fromkeys(
        ("massively", "huge", "enormous", "gigantic", "very large", "very big", "extremely large"), "massive"
    ),
}

SIDES: tuple[str, ...] = ("left", "right", "bilateral")
"""The patient's sides."""

SIDE_SYNONYMS = {
    **dict.fromkeys(("leftsided", "l", "lt", "left hand side", "left hand"), "left"),
    **dict.fromkeys(("rightsided", "r", "rt", "right hand side", "right hand"), "right"),
    **dict.fromkeys(("bilaterally", "bilat", "bil", "each side", "each lung"), "bilateral"),
    "left and right": "bilateral",
    "right and left": "bilateral",
    **dict.fromkeys(("both lung", "both lungs", "both lung fields", "both sides"), "bilateral"),
}

ZONES: MappingProxyType[str, frozenset[str]] = MappingProxyType(
    {
        "upper": frozenset({"upper"}),
        "middle": frozenset({"middle"}),
        "lower": frozenset({"lower"}),
        "apical": frozenset({"upper"}),
        "basal": frozenset({"lower"}),
        "retrocardiac": frozenset({"middle", "lower"}),
        "perihilar": frozenset({"upper", "middle"}),
    }
)
"""Every zone and the thirds of a lung that it touches. A lobe counts as the third that it mostly fills."""

ZONE_SYNONYMS = {
    "mid": "middle",
    "top": "upper",
    "bottom": "lower",
    "apex": "apical",
    "apicolateral": "apical",
    "base": "basal",
    "basilar": "basal",
    "costophrenic angle": "basal",
    "behind heart": "retrocardiac",
    "hilar": "perihilar",
    "hilum": "perihilar",
    "parahilar": "perihilar",
    "around hilum": "perihilar",
    "retro cardiac": "retrocardiac",
}

PLACES = {
    "bases": ("bilateral", "basal"),
    "bibasilar": ("bilateral", "basal"),
    "bibasal": ("bilateral", "basal"),
    "apices": ("bilateral", "apical"),
    "biapical": ("bilateral", "apical"),
    "lingula": ("left", "middle"),
    "lingular": ("left", "middle"),
    "rul": ("right", "upper"),
    "rml": ("right", "middle"),
    "rll": ("right", "lower"),
    "lul": ("left", "upper"),
    "lll": ("left", "lower"),
    **{f"{side[0]}{zone[0]}z": (side, zone) for side in ("left", "right") for zone in ("upper", "middle", "lower")},
    "both bases": ("bilateral", "basal"),
    "both apices": ("bilateral", "apical"),
    **{f"both {word}": ("bilateral", zone) for word, zone in ({z: z for z in ZONES} | ZONE_SYNONYMS).items()},
}
"""Words that name a side and a zone at once."""


def _forms(verb: str) -> tuple[str, ...]:
    """A regular verb's forms: "add", "adds", "added", "adding"."""
    stem = verb.removesuffix("e")
    return verb, f"{verb}s", f"{stem}ed", f"{stem}ing"


_ADD = (Operation.ADD, 0)
_REMOVE = (Operation.REMOVE, 0)
_CHANGE = (Operation.CHANGE, 0)
_UP = (Operation.CHANGE, +1)
_DOWN = (Operation.CHANGE, -1)

# fmt: off
VERBS: dict[str, tuple[Operation, int]] = {
    **{
        form: _ADD
        for verb in ("add", "insert", "introduce", "simulate", "create", "generate", "include", "produce",
                     "synthesize", "synthesise", "superimpose", "render")
        for form in _forms(verb)
    },
    **dict.fromkeys(("give", "gives", "giving", "put", "puts", "putting", "draw", "drawing", "addition of"), _ADD),
    **{form: _REMOVE for verb in ("remove", "delete", "erase", "eliminate") for form in _forms(verb)},
    **dict.fromkeys(
        ("clear", "clears", "clearing", "clear up", "clear out", "resolve", "take away", "taking away", "take out",
         "taking out", "take off", "get rid of", "getting rid of", "rid of", "wipe out", "rub out", "removal of",
         "resolution of", "disappearance of", "absence of"),
        _REMOVE,
    ),
    **{form: _CHANGE for verb in ("change", "alter", "edit") for form in _forms(verb)},
    **dict.fromkeys(
        "modify modifying adjust adjusting set setting make making turn turning convert move bring take".split(),
        _CHANGE,
    ),
    **dict.fromkeys(
        ("increase", "raise", "enlarge", "worsen", "upgrade", "progress", "escalate", "intensify", "exacerbate",
         "aggravate", "expand", "grow", "augment", "boost", "advance", "step up", "turn up", "scale up", "bring up",
         "double", "triple"),
        _UP,
    ),
    **dict.fromkeys(
        ("decrease", "reduce", "lessen", "shrink", "improve", "downgrade", "diminish", "relieve", "alleviate", "ease",
         "mitigate", "minimize", "minimise", "soften", "weaken", "regress", "step down", "turn down", "tone down",
         "dial down", "scale down", "bring down", "cut down", "halve"),
        _DOWN,
    ),
}
"""Every verb, its operation, and the direction (+1 up, -1 down, 0 either) in which it may move a level."""

_DEGREES = "severe, extensive, pronounced, prominent, dense, obvious, visible"
COMPARATIVES = {
    **dict.fromkeys(
        ("more", "larger", "bigger", "greater", "worse", *_joined("more", _DEGREES), "progression of",
         "disease progression of", "worsening of",
         "growth of", "increase in"),
        +1,
    ),
    **dict.fromkeys(
        ("less", "fewer", "smaller", "milder", "better", *_joined("less", _DEGREES), "improvement of",
         "improvement in", "decrease in", "reduction of", "reduction in"),
        -1,
    ),
}
# fmt: on
"""Words that ask for a change without saying how far, and its direction."""

WISHES = (
    "imagine", "suppose", "pretend", "assume", "show", "display", "visualize", "visualise", "want", "need", "wish",
    "would like", "i'd like", "we'd like", "what if", "what about", "how about", "as if", "as though", "let me see",
    "see", "looks like", "look like", "can i have", "could i have", "may i have", "can we have", "could we have",
    "i'll have", "i'll take",
)  # fmt: skip
"""Words that ask to see something: the sentence adds what it names, or removes what follows "no" or "without"."""

PRONOUNS = ("one", "ones")
"""Words for the finding that was named last."""

ARTICLES = frozenset({"a", "an", "the"})

CONJUNCTIONS = frozenset({"and", "&", "+", "plus", "as well as", "along with", "together with"})

PREPOSITIONS = frozenset({"of", "in", "at", "on", "over", "within", "into", "onto", "inside", "for"})

FILLERS = frozenset(
    """
    finding findings sign signs evidence presence appearance level levels severity size sized degree extent amount
    please pls plz kindly can could would should will i we me us now then next also just too again only simply let's
    lets first second firstly secondly finally lastly afterwards really actually so ok okay hi hello hey dear thanks
    you some any all new this that these those which is are was were be been has had have having there it he she
    they him his her their my our there's he's she's it's existing same patient patient's patients image x-ray xray
    radiograph picture film cxr chest scan lung lungs pulmonary pulm lobe lobes zone zones region regions area areas
    field fields side sides sided hemithorax whole entire
    """.split()
) | {"thank you", "go ahead and", "would you mind", "as well"}
"""Words that may stand anywhere and change nothing. These, and no others, are passed over."""
