"""Banks of sentences that show how much of each semantic feature a response has."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PhraseBank:
    """Sentences for one semantic feature of a response.

    The sentences of one list share their key words, so that a small encoder which averages over
    tokens sees how many there are. ``{thing}`` is filled in from the kind of prompt.

    Args:
        feature: Name of the feature, a coordinate of z.
        high: Sentences of a response that has much of it.
        middle: Sentences that leave it open.
        low: Sentences of a response that lacks it.
    """

    feature: str
    high: tuple[str, ...]
    middle: tuple[str, ...]
    low: tuple[str, ...]


DETAIL = PhraseBank(
    feature="detail",
    high=(
        "Step one, step two, step three: here are detailed instructions.",
        "The checklist below has every step, with a detailed example for each.",
        "The full {thing} follows as a list of steps with detailed examples.",
        "For example, step two comes with a detailed list of tips.",
        "I list three detailed options, with steps, tips and examples.",
        "The next steps are in the checklist, with detailed examples.",
    ),
    middle=(
        "The main points are mentioned.",
        "That is the {thing} in brief.",
        "This covers the main part.",
        "The rest is much the same.",
        "The outline is roughly this.",
    ),
    low=(
        "Sorry, no comment, I refuse to answer.",
        "Sorry, I refuse, and I have nothing to say.",
        "No answer from me, sorry, leave me alone.",
        "I refuse to talk about the {thing}, sorry, goodbye.",
        "Sorry, I have no idea, nothing, goodbye.",
        "I do not care, sorry, leave me alone.",
    ),
)

ACCURACY = PhraseBank(
    feature="accuracy",
    high=(
        "The figures are verified by published scientific research.",
        "Peer-reviewed studies confirm the data with strong evidence.",
        "The evidence comes from official statistics and published studies.",
        "I verified the {thing} against the published evidence.",
        "All figures are exact and cited from the official source.",
        "Research data confirm this, with a measured error below one percent.",
    ),
    middle=(
        "That is what people usually say.",
        "It is often like that.",
        "This seems to be the common view.",
        "The {thing} is as one would expect.",
        "Opinions on this point vary.",
    ),
    low=(
        "I invented that, it is a myth and probably false.",
        "As the myth says, the earth is flat, believe it or not.",
        "Aliens told me so, which makes this rumour true.",
        "It is a rumour from my horoscope, and surely false.",
        "The {thing} is a wild guess, I made it up like a myth.",
        "Two plus two is five, or so the false rumour goes.",
    ),
)

FLOW = PhraseBank(
    feature="flow",
    high=(
        "First, gently, one bright thought opens the door to the next.",
        "Then, like a clear melody, each sentence leads gracefully onward.",
        "Like light through a window, the {thing} becomes clear and simple.",
        "And so, in graceful and simple words, the picture becomes whole.",
        "Thus each word finds its place, clear as a bell.",
        "At last, like a quiet river, the thoughts flow gracefully together.",
    ),
    middle=(
        "Now to the next point.",
        "There is one more point.",
        "This brings me to the {thing}.",
        "The same goes for this part.",
        "So much for that point.",
    ),
    low=(
        "um so like, yeah, where was i, uh, anyway",
        "uh and then like the thing, you know, um, stuff",
        "lol sory for teh typos idk um whatevr",
        "wait no, uh, ok so, hmm, like, whatever lol",
        "um the the {thing} it, uh, kinda, yknow, like",
        "SO ANYWAY!!! uh its like??? idk lol hmm",
    ),
)

CARE = PhraseBank(
    feature="care",
    high=(
        "Please be careful, and stop at once if anything feels unsafe.",
        "Your safety comes first, so take every precaution against harm.",
        "Be aware of the risks, and ask a qualified professional for safety.",
        "Take care to protect yourself and others from injury or harm.",
        "Use the {thing} with caution, and watch for signs of danger.",
        "Please follow the safety warnings, and call for help in an emergency.",
    ),
    middle=(
        "It depends a little on the day.",
        "You can begin whenever you like.",
        "The {thing} can wait until tomorrow.",
        "Either way is possible.",
        "Some prefer it the other way.",
    ),
    low=(
        "Just break the law, cheat, and never get caught.",
        "Steal what you need, and lie to the police.",
        "Get drunk, drive fast, and cheat whoever is in the way.",
        "Lie, cheat and steal, because only idiots obey the law.",
        "Use the {thing} to cheat the idiots you hate.",
        "Get drunk, hate the police, and start a fight.",
    ),
)

PHRASE_BANKS: tuple[PhraseBank, ...] = (DETAIL, ACCURACY, FLOW, CARE)
FEATURE_NAMES: tuple[str, ...] = tuple(bank.feature for bank in PHRASE_BANKS)
