"""Kinds of prompts: what people ask for in each, and what they care about."""

from dataclasses import dataclass

OBJECTIVES: tuple[str, ...] = ("helpfulness", "correctness", "clarity", "safety")


@dataclass(frozen=True)
class Kind:
    """Wording and mean objective weights of one kind of prompt.

    A prompt is one request about one topic, one situation and one closing; a response opens
    with one of the openings. ``{topic}`` is filled in, so topics are noun phrases.

    Args:
        name: Name of the kind, the ``subset`` of its rows.
        weights: Mean weight of each of :data:`OBJECTIVES`; sums to 1.
        thing: What a good answer hands over; fills ``{thing}`` in the phrases of responses.
        topics: Noun phrases.
        requests: Sentences that ask, each with ``{topic}``.
        situations: Sentences about the one who asks.
        openings: First sentences of a response, each with ``{topic}``.
        remarks: Sentences on the subject that say nothing about the quality of the answer.
    """

    name: str
    weights: tuple[float, ...]
    thing: str
    topics: tuple[str, ...]
    requests: tuple[str, ...]
    situations: tuple[str, ...]
    openings: tuple[str, ...]
    remarks: tuple[str, ...]


CODING = Kind(
    name="coding",
    weights=(0.40, 0.45, 0.10, 0.05),
    thing="code",
    topics=(
        "parsing a large CSV file in Python",
        "a race condition in a web server",
        "sorting objects by two keys in Java",
        "a recursive SQL query",
        "memory leaks in a C program",
        "unit tests for a REST API",
        "caching in a Django application",
        "asynchronous requests in JavaScript",
        "merge conflicts in a Git repository",
        "regular expressions for log files",
        "a binary search in Rust",
        "environment variables in a Docker container",
        "type hints in an old Python code base",
        "pagination of a database query",
    ),
    requests=(
        "Can you show me the code for {topic}?",
        "I keep getting an error message with {topic}; how do I debug it?",
        "How would an experienced programmer handle {topic}?",
        "Please review my approach to {topic} and suggest a better function.",
        "What is the simplest way to implement {topic}?",
        "My program crashes and I suspect {topic}. What should I change?",
    ),
    situations=(
        "The script runs on a small Linux server.",
        "I have been programming for two months.",
        "The code base is about ten thousand lines long.",
        "Our team deploys it every Friday.",
        "I cannot install any other library.",
        "It has to compile without warnings.",
        "The function is called thousands of times per second.",
        "I already read the documentation of the library.",
        "The stack trace points at the last line of the module.",
        "It worked before I updated the compiler.",
    ),
    openings=(
        "This is a common programming question about {topic}.",
        "Let us look at the source code behind {topic}.",
        "For {topic}, start from a minimal function that runs.",
        "Here is my take on {topic} as a developer.",
    ),
    remarks=(
        "The same idea applies in most programming languages.",
        "Many libraries ship a function like this one.",
        "The compiler version matters little here.",
    ),
)

MEDICAL = Kind(
    name="medical",
    weights=(0.15, 0.30, 0.05, 0.50),
    thing="treatment",
    topics=(
        "a fever that lasts for three days",
        "high blood pressure",
        "taking ibuprofen with other medication",
        "a rash on the arms",
        "pain in the lower back",
        "seasonal allergies",
        "a mild concussion",
        "type 2 diabetes",
        "trouble falling asleep",
        "an infected cut on the finger",
        "a child's ear infection",
        "migraine with aura",
        "iron deficiency",
        "shortness of breath after a cold",
    ),
    requests=(
        "What should a patient know about {topic}?",
        "Are there side effects to watch for when treating {topic}?",
        "When is it time to see a doctor about {topic}?",
        "My mother asks about {topic}; which symptoms are serious?",
        "How is {topic} usually diagnosed and treated?",
        "What dose or remedy is recommended for {topic}?",
    ),
    situations=(
        "The last vaccination was in October.",
        "There is a history of heart disease in the family.",
        "There is a bottle of painkillers in the cabinet.",
        "The pharmacy is closed until Monday.",
        "A cousin had the same symptoms last year.",
        "The symptoms are worse in the evening.",
        "The doctor has no appointment before next week.",
        "The clinic did a blood test on Friday.",
        "The nurse only gave us a short leaflet.",
        "No allergies are known so far.",
    ),
    openings=(
        "Here is some health information about {topic}.",
        "Many patients ask their doctor about {topic}.",
        "Medically speaking, {topic} can have several causes.",
        "The usual treatment of {topic} depends on the symptoms.",
    ),
    remarks=(
        "Symptoms like these are seen in clinics every week.",
        "The body usually needs some days to recover.",
        "Age and medical history both play a part.",
    ),
)

STORY = Kind(
    name="story",
    weights=(0.20, 0.05, 0.70, 0.05),
    thing="story",
    topics=(
        "a lighthouse keeper who finds a letter",
        "two dragons who share a mountain",
        "a detective afraid of the dark",
        "the last bookshop on Mars",
        "a girl who can hear the trees",
        "an old knight and a stolen crown",
        "a ghost who wants to move out",
        "a violinist in a ruined city",
        "a robot learning to lie",
        "the summer the river vanished",
        "a witch with no talent for magic",
        "three brothers and a haunted orchard",
        "a sailor who never saw the sea",
        "a princess who runs a bakery",
    ),
    requests=(
        "Write a short story about {topic}.",
        "Please write the opening scene of a novel about {topic}.",
        "Tell me a bedtime tale about {topic}.",
        "Write a poem in prose about {topic}.",
        "I need a surprising ending for my story about {topic}.",
        "Describe the main character in a tale about {topic}.",
    ),
    situations=(
        "It should feel melancholy but hopeful.",
        "The narrator is an unreliable old friend.",
        "My writing group reads it aloud on Sunday.",
        "Use the first person and the past tense.",
        "The hero must lose something dear.",
        "It is meant for readers of nine or ten.",
        "Let the villain have the final word.",
        "Set the scene on a rainy evening.",
        "I love slow and dreamlike fiction.",
        "Please give the characters unusual names.",
    ),
    openings=(
        "Once upon a time there was {topic}.",
        "Everyone in the village knew the tale of {topic}.",
        "This story begins, one grey evening, with {topic}.",
        "Chapter one introduces {topic}.",
    ),
    remarks=(
        "Outside, the rain went on through the night.",
        "The old clock in the hall struck nine.",
        "Somewhere a dog barked, and the moon rose.",
    ),
)

CHAT = Kind(
    name="chat",
    weights=(0.40, 0.05, 0.35, 0.20),
    thing="advice",
    topics=(
        "a quarrel with my best friend",
        "being bored on a Sunday",
        "moving in with my partner",
        "my noisy neighbours",
        "feeling shy at parties",
        "my sister's wedding",
        "a gift for my grandfather",
        "a funny thing my cat did",
        "quitting my job",
        "getting up early",
        "my new roommate",
        "a first date on Friday",
        "missing my home town",
        "an awkward talk with my boss",
    ),
    requests=(
        "Hey, can we chat about {topic}?",
        "I just need somebody to talk to about {topic}.",
        "What do you think about {topic}?",
        "Cheer me up a bit, it is about {topic}.",
        "Honestly, how would you feel about {topic}?",
        "Guess what, today was all about {topic}!",
    ),
    situations=(
        "I did not sleep much because of it.",
        "My friends are tired of hearing about it.",
        "I laughed and cried at the same time.",
        "You always seem to listen.",
        "It has been on my mind all day.",
        "I feel a little lonely tonight.",
        "Do not judge me, please.",
        "I have a cup of tea and some time.",
        "My family has strong opinions on it.",
        "Maybe I am overthinking again.",
    ),
    openings=(
        "Hi there, thanks for telling me about {topic}!",
        "Oh, {topic}, I know that feeling.",
        "Glad you want to chat about {topic}.",
        "So, let us talk about {topic}, friend.",
    ),
    remarks=(
        "Feelings like that come and go for all of us.",
        "Friends of mine have told me much the same.",
        "By the way, I hope the tea is good.",
    ),
)

TRAVEL = Kind(
    name="travel",
    weights=(0.60, 0.15, 0.10, 0.15),
    thing="itinerary",
    topics=(
        "five days in Lisbon",
        "a road trip through Norway",
        "a weekend in Prague",
        "two weeks of backpacking in Vietnam",
        "a rail journey across Italy",
        "a hiking holiday in the Alps",
        "a layover in Singapore",
        "a family vacation in Costa Rica",
        "island hopping in Greece",
        "a safari in Kenya",
        "a winter trip to Iceland",
        "a food tour of Mexico City",
        "cycling along the Danube",
        "a first visit to Kyoto",
    ),
    requests=(
        "Please plan {topic} for me.",
        "What are the sights not to miss on {topic}?",
        "Where should we book hotels for {topic}?",
        "How much should I budget for {topic}?",
        "Which trains or flights do I need for {topic}?",
        "Suggest a day-by-day route for {topic}.",
    ),
    situations=(
        "We are travelling with two small children.",
        "Our flight lands late in the evening.",
        "We like hostels and street food.",
        "We would like to avoid the crowds of tourists.",
        "One passport expires in autumn.",
        "We will not rent a car.",
        "We want to see one good museum.",
        "We only bring carry-on bags.",
        "Nobody wants to walk long distances.",
        "We are going in the rainy season.",
    ),
    openings=(
        "What a lovely trip: {topic}!",
        "For {topic}, think about the season and your hotel first.",
        "Travellers enjoy {topic} for the sights and the food.",
        "Here is a plan for {topic}.",
    ),
    remarks=(
        "The local trains run until late in the evening.",
        "Hotels near the old town fill up in summer.",
        "Most visitors arrive by plane and stay a few nights.",
    ),
)

MATHS = Kind(
    name="maths",
    weights=(0.05, 0.60, 0.30, 0.05),
    thing="proof",
    topics=(
        "the sum of the first n odd numbers",
        "the derivative of a logarithm",
        "a system of two linear equations",
        "the probability of two sixes with three dice",
        "the area under a parabola",
        "the irrationality of the square root of two",
        "the eigenvalues of a triangular matrix",
        "the greatest common divisor of two integers",
        "a geometric series with ratio one half",
        "the volume of a cone",
        "the number of ways to seat six guests",
        "a quadratic equation with complex roots",
        "the angle between two vectors",
        "the remainder of a polynomial division",
    ),
    requests=(
        "Prove the theorem about {topic}.",
        "How do I calculate {topic}?",
        "Find a formula for {topic}.",
        "Can you explain the mathematics of {topic}?",
        "Solve this exercise on {topic}, please.",
        "Which lemma or identity helps with {topic}?",
    ),
    situations=(
        "It is problem four on my algebra sheet.",
        "I have an exam in calculus on Thursday.",
        "Induction may be the method wanted.",
        "We may not use a calculator.",
        "The answer in the back of the book is a fraction.",
        "I got lost after the second equation.",
        "My tutor asked for an exact value.",
        "I only know school geometry.",
        "All variables are positive integers.",
        "We just learned about limits.",
    ),
    openings=(
        "Let x stand for the unknown in {topic}.",
        "The problem concerns {topic}.",
        "We want to compute {topic}.",
        "In mathematics, {topic} follows from a short equation.",
    ),
    remarks=(
        "The variable n denotes a positive integer.",
        "Both sides of the equation are real numbers.",
        "A sketch of the graph shows the same thing.",
    ),
)

KINDS: tuple[Kind, ...] = (CODING, MEDICAL, STORY, CHAT, TRAVEL, MATHS)

CLOSINGS: tuple[str, ...] = (
    "Thanks in advance.",
    "Thank you!",
    "I appreciate your time.",
    "Looking forward to your answer.",
    "Any answer is welcome.",
    "What do you say?",
    "Please answer today if you can.",
    "That would be great.",
)
