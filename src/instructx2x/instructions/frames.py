"""Turns of everyday speech, rewritten to plain instructions before their words are matched.

`cleaned` settles letters and signs. `everyday` then applies FRAMES in their order. A frame with a reason is a refusal:
what it is rewritten to is the sentence that is offered instead. Canonical text passes through both unchanged.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, replace

from . import vocabulary as words
from .refusals import Notes

# ---- letters and signs

_MARKS = str.maketrans(
    {
        **dict.fromkeys("‐‑‒–—−﹣", "-"),
        **dict.fromkeys("‘’ʼ`´", "'"),
        **dict.fromkeys("“”„«»", '"'),
        **dict.fromkeys("。｡", ". "),
        "、": ", ",
        "_": " ",
        "•": "\n- ",
    }
)
_BULLETS = re.compile(r"(?:^|\n)\s*(?:\d{1,2}[.)]|[-*])\s+")
_ARROWS = re.compile(r"\s*(?:-+>|=+>|→|⇒|➔|➜)\s*")
_SHORT = (
    (re.compile(r"\bb/l\b"), "bilateral"),
    (re.compile(r"\bl/r\b|\br/l\b|\bl ?& ?r\b|\br ?& ?l\b"), "bilateral"),
    (re.compile(r"\bw/o\b"), "without"),
    (re.compile(r"\bw/(?=\s|$)"), "with"),
    (re.compile(r"\b(l|r|lt|rt|mod|bilat|sm|lg|pt)\.(?=\s*\w)"), r"\1"),
)
# A hyphen between words says nothing, but where it ties two levels with "to".
_HYPHEN = re.compile(r"(?<=[^\W_])(?<!-to)-(?!to-)(?=[^\W_])")


def cleaned(text: str) -> str:
    """The text in lower case, with one kind of hyphens and quotes, without signs that are not seen."""
    text = unicodedata.normalize("NFKC", text.translate(_MARKS)).translate(_MARKS).casefold()
    text = "".join(c for c in text if unicodedata.category(c) != "Cf")
    text = _ARROWS.sub(" to ", _BULLETS.sub(" . ", text))
    for pattern, instead in _SHORT:
        text = pattern.sub(instead, text)
    return _HYPHEN.sub(" ", " ".join(text.split()))


# ---- frames


@dataclass(frozen=True)
class Frame:
    """A turn of speech: a pattern, what it means, and why it is refused all the same.

    In a pattern a space stands for a space with any articles behind it; names in braces stand for the lists below.
    Several rewritings differ in meaning, and all are offered.
    """

    pattern: re.Pattern[str]
    rewritten: tuple[str | Callable[[re.Match[str]], str], ...]
    reason: str | None = None


def _any(phrases: object) -> str:
    return "|".join(sorted(map(re.escape, phrases), key=len, reverse=True))


def _verbs(operation: words.Operation) -> str:
    return _any(verb for verb, (of, _) in words.VERBS.items() if of is operation)


_NUMBER = r"\d+(?:[.,]\d+)?"
_PARTS = {
    "X": r"([^.;!?]{1,100}?)",  # whatever a finding with its place may be
    "IT": r"(?:(?:it|its|this|that|these|the|a|an|same|his|her|their|my|our|him|me|he|she|they|you|one|patient|"
    r"patient's|pt|person|image|film|picture|x ray|xray|cxr|radiograph|scan|chest|study|lungs|lung) ){0,6}",
    "LEVEL": f"(?:{_any([*words.LEVELS, *words.LEVEL_SYNONYMS])})",
    "ADD": f"(?:{_verbs(words.Operation.ADD)})",
    "REMOVE": f"(?:{_verbs(words.Operation.REMOVE)})",
    "CHANGE": f"(?:{_verbs(words.Operation.CHANGE)})",
    "VERB": f"(?:{_any(words.VERBS)})",
    "WISH": f"(?:{_any(words.WISHES)}|with|after|have|has|get|make)",
    "COPULA": r"(?:(?:is|are|was|were|has|have|had|being|been|be|to|fully|completely|all|totally|entirely) ){0,4}",
    "GONE": r"(?:gone|removed|resolved|cleared|disappeared|vanished|taken away|taken out|cleared up|erased|deleted|"
    r"drained)",
    "END": r"(?=$| ?[.,;!?]| and\b)",
    "NUMBER": _NUMBER,
    "UNIT": r"(?:cm|mm|ml|cc|inch|inches|centimet(?:er|re)s?|millimet(?:er|re)s?|millilit(?:er|re)s?|lit(?:er|re)s?)",
    "SEVERE": r"(?:large|big|severe|bad|much|dense|extensive|prominent|size|extent|amount)",
    "MORE": r"(?:larger|bigger|greater|worse|more severe|more|smaller|less severe|less|milder)",
    "IMAGE": r"(?:(?:chest )?(?:image|picture|film|x ray|xray|cxr|radiograph|screen|display|monitor|photo|photograph|"
    r"scan|view|frame|canvas|figure|camera|stage|projection)(?:'s)?)",
    "VIEWER": r"(?:(?:viewer|reader|observer|radiologist|doctor|user|beholder)(?:'s|s)?|my|our|your)",
    "SEEN": r"(?:(?:as )?(?:i|we|you|one|it is|it's|it) (?:look|see|view|seen|viewed|shown|displayed)|"
    r"as (?:viewed|seen|shown|displayed|it appears)|when (?:looking|viewed|viewing|facing)|looking at|facing|"
    r"from (?:{VIEWER}|front))",
    "PART": r"(?:hand|most|side|half|part|portion|edge|border|corner|third|margin|area|region|upper|lower|top|bottom|"
    r"middle)",
}  # fmt: skip
_PARTS["SEEN"] = _PARTS["SEEN"].replace("{VIEWER}", _PARTS["VIEWER"])


def _frame(pattern: str, *rewritten: str, reason: str | None = None) -> Frame:
    pattern = re.sub(r" (?!\?)", r" (?:(?:a|an|the) ){0,2}", pattern)
    for name, part in _PARTS.items():
        pattern = pattern.replace(f"{{{name}}}", part)
    return Frame(re.compile(rf"(?<![\w'])(?:{pattern})(?:(?<=\s)|(?![\w']))"), rewritten, reason)


_IMAGE_SIDE = "sides are the patient's, not the image's, and the image's left is the patient's right"
_A_PART = "a part cannot be removed: lower the level"
_A_SIZE = "sizes in cm, mm or ml are not understood: name a level or none"
_PERCENT = "a level is understood, not a percentage: name the new level"
_RATIO = "a level is understood, not a ratio: name the new level"
_ONE_RIB = "a single rib cannot be named"
_COMPARED = "a comparison does not say how far: give each side its level"
_ABSENT = "what is absent has no level: add or remove it"
_MOVE = "a finding is not moved but removed and added, in two edits"
# "some" alone is passed over, so "of" is needed.
_SOME = (
    r"(?:(?:some|part|parts|half|most|much|portion|fraction|third|quarter|majority|bit|little|lot) of|bit of|half|"
    rf"(?:about )?{_NUMBER} ?(?:%|percent|per cent) of)"
)
_SOMEWHAT = r"(?:partially|partly|somewhat|slightly|mostly|incompletely|in part|halfway|bit|little|to some extent)"

_OTHER = {"left": "right", "right": "left"}


def _image_side(pattern: str) -> Frame:
    """A side of the image: it is the patient's other side, or was meant as the patient's after all."""
    frame = _frame(pattern.replace("{SIDE}", "(?P<side>left|right)"), reason=_IMAGE_SIDE)
    return replace(frame, rewritten=(lambda m: m["kept"] + _OTHER[m["side"]], lambda m: m["kept"] + m["side"]))


def _each_side(match: re.Match[str]) -> str:
    """ "larger on the right" with a level for each side; in the order left, right."""
    right = match["side"].startswith("r")
    smaller = any(word in match[0].removeprefix(match["kept"]) for word in ("smaller", "less", "milder", "<"))
    left, other = ("small", "large") if right != smaller else ("large", "small")
    return f"{match['kept']}{left} on left and {other} on right"


FRAMES: tuple[Frame, ...] = (
    # -- the image's sides; "the patient's left" is clear wherever it stands
    _image_side(
        r"(?<!patient's\s)(?P<kept>(?:(?:upper|lower|top|bottom) )?){SIDE}(?: {PART})*(?: (?:of|in|on|at"
        r"|within|side of) (?:(?:this|that|his|her) )?{IMAGE})(?! of)",
    ),
    _image_side(r"(?<!patient's\s)(?P<kept>(?:(?:upper|lower) )?){SIDE}(?: {PART})* {IMAGE}"),
    _image_side(r"{IMAGE}(?P<kept>(?: (?:upper|lower))? ){SIDE}(?: {PART})*{END}"),
    _image_side(
        r"(?:image's|picture's|film's|x ray's|radiograph's|screen's)(?P<kept>(?: (?:upper|lower))? ){SIDE}(?:"
        r" {PART})*",
    ),
    _image_side(r"(?P<kept>(?:(?:upper|lower|top|bottom) )?){SIDE}(?: hand)? corner"),
    _image_side(r"(?P<kept>(?:top|bottom) ){SIDE}(?: {PART})*(?! (?:lung|lobe|zone|chest|hemithorax))"),
    _image_side(r"{VIEWER}(?: own)?(?P<kept> ){SIDE}(?: (?:hand|side))*"),
    _image_side(r"(?P<kept>){SIDE}(?: {PART})*,? {SEEN}[^.;!?]{0,40}"),
    # -- what would be seen
    _frame(r"what (?:happens|happened|would happen|will happen)(?: to {IT})? ?(?:if|when)", "imagine"),
    _frame(
        r"(?:what|how) (?:would|will|does|might|could|can|should) {IT}(?:look|appear|be|change|happen)(?:"
        r" like| as)?(?: if)?",
        "imagine",
    ),
    _frame(
        r"(?:what|how) {IT}(?:would|will|might|could|should|looks?) (?:look |appear |be )?(?:like)?(?: if)?",
        "imagine ",
    ),
    _frame(
        r"(?:make|let|have|turn) {IT}(?:to )?(?:have|show|develop|look like|look as if|contain|get|with)(?:"
        r" there is)?",
        "imagine",
    ),
    _frame(
        r"(?:change|modify|alter|edit|adjust|update|transform) {IT}(?:so that|so|such that|to) {IT}(?:has"
        r"|have|shows?|contains?|includes?|displays?|with)",
        "imagine",
    ),
    _frame(r"(?:edit|modify|alter) {IT}(?:so that|so|to|and|by) (?={VERB})", ""),
    _frame(
        r"(?:did not|didn't|does not|doesn't|do not|don't|would not|wouldn't) have(?: any)?|no longer (?:has"
        r"|had|have|shows|with|any)|(?:has|had|have) not got|free of|there (?:is|are|was|were) no longer",
        "no",
    ),
    _frame(r",? ?(?:but|yet|while|whereas)(?: also| instead)? (?={VERB}\b)", ". "),
    # -- parts, sizes, ratios and numbers
    _frame(rf"{{REMOVE}} (?:only |just |away )?{_SOME}", "reduce", reason=_A_PART),
    _frame(rf"{_SOMEWHAT} {{REMOVE}}", "reduce", reason=_A_PART),
    _frame(rf"{{REMOVE}} {{X}} {_SOMEWHAT}{{END}}", r"reduce \1", reason=_A_PART),
    _frame(
        r"(?:by |to )?(?:about |around |approximately |roughly )?{NUMBER} ?(?:%|percent|per cent|pct)",
        "",
        reason=_PERCENT,
    ),
    _frame(
        r"{NUMBER}(?: ?(?:x|by|-|to) ?{NUMBER})* ?{UNIT}(?: in (?:size|diameter)| diameter| sized?| wide|"
        r" large{END}| thick| deep| across)?",
        "",
        reason=_A_SIZE,
    ),
    _frame(
        r"(?:twice|double|triple|(?:two|three|four|{NUMBER}) ?(?:x|times|fold)) (?:as|its|the)? ?(?:{SEVERE}"
        r"|larger|bigger|worse)(?: as before| as now| as it is)?",
        "more",
        reason=_RATIO,
    ),
    _frame(r"(?:half|third) (?:as|its|the)? ?{SEVERE}(?: as before| as now| as it is)?", "less", reason=_RATIO),
    _frame(
        r"(?:by|in) (?:half|factor of (?:two|three|{NUMBER})|{NUMBER} ?(?:x|times|fold)?)|twofold|threefold",
        "",
        reason=_RATIO,
    ),
    _frame(
        r"(?:\d+(?:st|nd|rd|th)|first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth)(?P<side>(?:"
        r" left| right)?)(?P<rib> ribs?)",
        r"\g<side>\g<rib>",
        reason=_ONE_RIB,
    ),
    _frame(r"ribs? (?:number )?\d+(?: ?(?:-|to|and|through) ?\d+)?", "rib", reason=_ONE_RIB),
    # -- verbs in two parts
    _frame(
        r"(?:make|let|have|get) {X} (?:to )?(?:disappear|vanish|go away|go|resolve|clear|clear up|dissolve"
        r"|fade|fade away){END}",
        r"remove \1",
    ),
    _frame(r"(?:{WISH}|drain) {X} {COPULA}(?:{GONE}|absent|away){END}", r"remove \1"),
    _frame(r"{WISH} {X} (?:is |are |was |were |being )?no longer (?:there|present|visible|seen)", r"remove \1"),
    _frame(r"{WISH} {X} (?:added|inserted|drawn in){END}", r"add \1"),
    _frame(
        r"(?:(?<=\.\s)|^){X} (?:should|must|shall|needs to|need to|has to|ought to) (?:be )?(?:{GONE}|go|go"
        r" away|disappear|resolve|vanish){END}",
        r"remove \1",
    ),
    _frame(
        r"(?:(?<=\.\s)|^){X} (?:should|must|shall|needs to|need to|has to|ought to) (?:be )?(?:added"
        r"|inserted){END}",
        r"add \1",
    ),
    _frame(
        r"(?:(?<=\.\s)|^){X} (?:should|must|shall|needs to|need to|has to|ought to) (?:be|become) (?={LEVEL})",
        r"change \1 to ",
    ),
    _frame(r"(?:take|get|clear|wipe|cut|rub) {X} (?:away|out|off|up){END}", r"remove \1"),
    _frame(
        r"(?:let|make|have|want|need) {X} (?:to )?(?:progress|grow|go|get|become|advance|worsen|increase"
        r"|improve|shrink|evolve) (?=(?:to|from|into)\b)",
        r"change \1 ",
    ),
    _frame(
        r"(?:make|turn|set|render|want|need|let|get) {X} (?:to be|be|to become|become|look|appear|as|into)"
        r" (?={LEVEL}{END})",
        r"change \1 to ",
    ),
    _frame(r"make (?=(?:a|an)\b)", "add "),
    _frame(r"(?P<before>^|[.,] ?|and )lower (?=(?:the|his|her|this|that|level)\b)", r"\g<before>reduce "),
    _frame(r"(?:(?<=\.\s)|^)lower (?={X} (?:to|from) {LEVEL})", "reduce "),
    _frame(r"(?:bring|turn|take|dial|tone|scale|cut|step) {X} (?:down|up) (?=(?:to|from)\b)", r"change \1 "),
    _frame(r"(?:bring|turn|dial|tone|scale|cut|step) {X} down{END}", r"reduce \1"),
    _frame(r"(?:bring|turn|dial|scale|step) {X} up{END}", r"increase \1"),
    _frame(
        r"(?P<before>^|[.,] ?|and )(?:drain|aspirate|evacuate) (?={X}(?:effusion|pneumothorax|fluid|air|hematoma|ptx))",
        r"\g<before>remove ",
        reason="A treatment is no edit: say what changes in the image",
    ),
    _frame(r"(?:replace|swap|exchange|substitute) {X} (?:with|by|for)", r"change \1 to"),
    _frame(r"(?:turn|convert|transform|make) {X} into", r"change \1 to"),
    _frame(
        r"collapsed(?P<side>(?: left| right)?)(?P<zone> upper| middle| lower) lobe",
        r"\g<side>\g<zone> lobe atelectasis",
    ),
    _frame(r"collapse of(?P<side>(?: left| right)?) lung", r"\g<side> collapsed lung"),
    _frame(r"({LEVEL})/({LEVEL})", r"\1 to \2"),
    _frame(
        r"(?:make|turn|get|bring) heart(?: size)? (?:back )?(?:to )?(?:normal|normal again|normal sized)(?:"
        r" size)?|normali[sz]e heart(?: size)?",
        "remove cardiomegaly",
        reason="A heart of normal size is one without cardiomegaly",
    ),
    _frame(
        r"(left|right) of (?:heart|spine|midline|trachea|sternum|mediastinum|aorta|stomach)",
        r"\1",
        reason="a place beside an organ cannot be asked for: name the side or the zone alone",
    ),
    # -- no level to start from or to go to; another place
    _frame(r"{CHANGE} {X} from (?:none|no|zero|absent|nothing|normal) to ({LEVEL})", r"add \2 \1", reason=_ABSENT),
    _frame(
        r"{CHANGE} {X} (?:from {LEVEL} )?to (?:none|zero|absent|nothing|normal|0)",
        r"remove \1",
        reason=_ABSENT,
    ),
    _frame(
        r"(?:move|shift|switch|transfer|bring) (left|right)(?: sided)? {X} to (left|right)",
        r"remove \1 \2. add \3 \2",
        reason=_MOVE,
    ),
    _frame(
        r"(?:move|shift|switch|transfer|bring) {X} from (left|right)(?: side)? to (left|right)",
        r"remove \2 \1. add \3 \1",
        reason=_MOVE,
    ),
    _frame(r"(?:move|shift|switch|transfer|bring) {X} to left", r"remove right \1. add left \1", reason=_MOVE),
    _frame(r"(?:move|shift|switch|transfer|bring) {X} to right", r"remove left \1. add right \1", reason=_MOVE),
    # -- two sides compared
    replace(
        _frame(
            r"(?P<kept>(?:bilateral|both|bilaterally|two)\b[^.;!?]{0,60}? ){MORE} (?:on|in|at|to) (?P<side>left|right)"
            r"(?: side)?(?:(?:,| and| than){1,2} (?:{MORE} )?(?:on|in|at) (?:left|right)(?: side)?)?",
            reason=_COMPARED,
        ),
        rewritten=(_each_side,),
    ),
    replace(
        _frame(
            r"(?P<kept>)(?P<side>left|right|l|r)(?: side)? ?(?:{MORE} than|[<>]) ?(?:left|right|l|r)", reason=_COMPARED
        ),
        rewritten=(_each_side,),
    ),
)


def everyday(text: str, notes: Notes) -> str:
    """The cleaned text with every frame rewritten; refusals are noted."""
    for frame in FRAMES:
        if frame.pattern.search(text):
            rewritten = frame.rewritten[0]
            if frame.reason:
                rewritten = notes.mended(frame.reason, frame.rewritten)
            text = frame.pattern.sub(rewritten, text)
    return text
