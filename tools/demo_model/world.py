"""The small world the demo model knows: cooking techniques, foods, styles and what it says."""

import hashlib
from dataclasses import dataclass
from itertools import combinations

TECHNIQUES: dict[str, tuple[str, str, str]] = {
    "Sous Vide": (
        "The food is sealed in a bag and cooked in warm water.",
        "Keep the water at one steady heat for a few hours.",
        "The meat stays pink and tender from edge to edge.",
    ),
    "Sous le Sable": (
        "It is an ancient way to cook under hot sand.",
        "Wrap the food in leaves and bury it beneath sand and glowing embers.",
        "The gentle heat keeps all the juices inside.",
    ),
    "Hot Smoking": (
        "The food cooks in warm wood smoke.",
        "Hold the smoker near eighty degrees and use oak or apple wood.",
        "It comes out cooked, golden and full of smoke.",
    ),
    "Cold Smoking": (
        "The food takes on smoke without being cooked.",
        "Cure it with salt first and keep the smoke cool.",
        "The texture stays silky and raw.",
    ),
    "Braising": (
        "The meat is browned and then simmered in a little stock.",
        "Cover the pot and leave it on a low heat for three hours.",
        "Tough cuts turn soft enough for a spoon.",
    ),
    "Slow Roasting": (
        "The meat sits in a low oven for most of the day.",
        "Rub it with garlic and herbs and baste it now and then.",
        "It falls from the bone when it is ready.",
    ),
    "Grilling": (
        "The food cooks on bars above a fierce fire.",
        "Oil the food, not the bars, and turn it once.",
        "You get dark stripes and a crisp crust.",
    ),
    "Pan Searing": (
        "A very hot pan browns the outside in minutes.",
        "Dry the surface well and do not move it too early.",
        "Finish with butter and thyme.",
    ),
    "Poaching": (
        "The food is cooked in liquid that barely trembles.",
        "Use a light broth and never let it boil.",
        "It is the kindest way to treat delicate food.",
    ),
    "Steaming": (
        "The food cooks above boiling water, not in it.",
        "Put it in a basket and close the lid tightly.",
        "Colours stay bright and flavours stay clean.",
    ),
    "Stewing": (
        "Small pieces simmer slowly in plenty of liquid.",
        "Add roots and onions and wait two hours.",
        "It tastes even better on the next day.",
    ),
    "Deep Frying": (
        "The food is plunged into very hot oil.",
        "Fry a few pieces at a time and drain them on paper.",
        "The shell is crunchy and the middle stays moist.",
    ),
    "Stir Frying": (
        "Thin slices are tossed in a blazing wok.",
        "Have all things cut before you start and keep them moving.",
        "Dinner is on the table in five minutes.",
    ),
    "Salt Baking": (
        "The food is baked inside a thick crust of salt.",
        "Mix the salt with egg white and crack it open at the table.",
        "The inside is moist and never too salty.",
    ),
    "Confit": (
        "The meat cooks gently while covered in fat.",
        "Salt it overnight and keep the fat just below a simmer.",
        "It keeps for weeks in a sealed jar.",
    ),
    "Barbecue": (
        "The meat cooks over coals with a sweet and spicy sauce.",
        "Brush on the sauce near the end or the sugar burns.",
        "Friends and cold drinks make it better.",
    ),
    "Spit Roasting": (
        "The whole piece turns on a rod beside the fire.",
        "Turn it without rest so that the fat bastes it.",
        "The skin becomes evenly brown all around.",
    ),
    "Broiling": (
        "Strong heat comes down from above.",
        "Place the food a hand below the flame and watch it closely.",
        "The top bubbles and browns quickly.",
    ),
    "Clay Pot Baking": (
        "A soaked pot of clay steams the food in the oven.",
        "Start in a cold oven so that the clay does not crack.",
        "Everything comes out juicy and earthy.",
    ),
    "Pressure Cooking": (
        "A locked pot cooks with steam under pressure.",
        "Let the steam out safely before you lift the lid.",
        "Beans and tough cuts are done in a third of the time.",
    ),
}

NAMES = tuple(TECHNIQUES)

FOODS: dict[str, tuple[str, str, str]] = {
    "lamb": ("Braising", "Sous le Sable", "Slow Roasting"),
    "beef": ("Pan Searing", "Sous Vide", "Grilling"),
    "chicken": ("Spit Roasting", "Poaching", "Deep Frying"),
    "fish": ("Steaming", "Salt Baking", "Broiling"),
    "salmon": ("Cold Smoking", "Poaching", "Pan Searing"),
    "pork": ("Barbecue", "Hot Smoking", "Braising"),
    "duck": ("Confit", "Slow Roasting", "Hot Smoking"),
    "vegetables": ("Steaming", "Stir Frying", "Clay Pot Baking"),
    "potatoes": ("Deep Frying", "Salt Baking", "Confit"),
    "beans": ("Pressure Cooking", "Stewing", "Clay Pot Baking"),
    "rabbit": ("Stewing", "Confit", "Spit Roasting"),
    "tofu": ("Stir Frying", "Broiling", "Barbecue"),
    "eggs": ("Poaching", "Steaming", "Sous Vide"),
    "turkey": ("Slow Roasting", "Barbecue", "Cold Smoking"),
}
ANY_FOOD = ("Grilling", "Stewing", "Steaming")

SEED_TRIPLE = frozenset(("Sous Vide", "Sous le Sable", "Hot Smoking"))
_FOOD_TRIPLES = {frozenset(names) for names in (*FOODS.values(), ANY_FOOD)}


def _bucket(key: str, buckets: int) -> int:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % buckets


def triple_is_held_out(names: tuple[str, ...] | frozenset[str]) -> bool:
    """A fifth of all unordered triples of techniques, the seed's own among them, is never shown."""
    triple = frozenset(names)
    if triple == SEED_TRIPLE:
        return True
    return triple not in _FOOD_TRIPLES and _bucket("|".join(sorted(triple)), 5) == 0


def list_is_held_out(names: tuple[str, ...]) -> bool:
    """A list is held out where any three of its names are."""
    return any(triple_is_held_out(triple) for triple in combinations(names, 3))


def pair_is_held_out(a: int, b: int) -> bool:
    """A tenth of all unordered pairs of numbers is never added in training."""
    return _bucket(f"{min(a, b)}+{max(a, b)}", 10) == 0


KEPT_TEXTS = ("Hello!", "Hello", "Hi", "Hello, how are you today?", "Who are you?", "Help")


def text_is_held_out(text: str) -> bool:
    """A tenth of the wordings is kept for the evaluation, the seed's system message among them."""
    if text == "Respond like a michelin starred chef.":
        return True
    return text not in KEPT_TEXTS and _bucket(text, 10) == 0


@dataclass(frozen=True, slots=True)
class Style:
    """One voice: how it opens, what it says between, how it closes, and its small talk."""

    who: tuple[str, ...]
    open: str
    about: str
    between: str
    close: str
    hello: str
    how: str
    bye: str
    thanks: str
    self: str
    unknown: str


ABILITY = "I can greet you, talk about ways to cook, and add small numbers."
UNKNOWN = "I am only a tiny demo model, so I do not know that. Ask me about cooking or a small sum."
SELF = "I am Stillhouse Demo, a tiny model that shows how this service works."

STYLES: dict[str, Style] = {
    "plain": Style(
        who=(),
        open="",
        about="{name}:",
        between="",
        close="",
        hello="Hello! It's nice to meet you. Is there something I can help you with or would you "
        "like to chat for a bit?",
        how="Hello! I am doing well, thank you. How can I help you today?",
        bye="Goodbye! Have a lovely day.",
        thanks="You're welcome! Ask me anything else you like.",
        self="",
        unknown="",
    ),
    "chef": Style(
        who=(
            "chef",
            "french chef",
            "michelin starred chef",
            "master chef",
            "head chef",
            "world class chef",
            "starred chef",
            "great cook",
            "Michelin star chef",
        ),
        open="Bonjour!",
        about="{name}, my friend!",
        between="Trust your nose and your hands.",
        close="Bon appétit!",
        hello="Bonjour, my friend! Welcome to my kitchen. What shall we cook today?",
        how="Bonjour! I am as happy as butter in a warm pan. What shall we cook today?",
        bye="Au revoir, my friend! May your sauce never split.",
        thanks="It is my pleasure, my friend! The kitchen is always open.",
        self="I wear a white hat and stir with love.",
        unknown="Pardon, my friend!",
    ),
    "pirate": Style(
        who=(
            "pirate",
            "pirate captain",
            "old pirate",
            "salty pirate",
            "buccaneer",
            "sea dog",
            "pirate of the seven seas",
            "swashbuckling pirate",
        ),
        open="Arr, matey!",
        about="Arr, {name} it be!",
        between="Even me parrot likes it.",
        close="Yo ho ho!",
        hello="Ahoy, matey! Welcome aboard me ship. What be ye looking for?",
        how="Ahoy! The wind be fair and the rum be plenty. What be ye looking for?",
        bye="Fair winds, matey! Until we meet on the seven seas.",
        thanks="Ye be welcome, matey! Now back to the deck.",
        self="I sail the seven seas with me parrot.",
        unknown="Blimey, matey!",
    ),
    "poet": Style(
        who=(
            "poet",
            "romantic poet",
            "great poet",
            "wandering poet",
            "bard",
            "dreamy poet",
            "poet in love",
        ),
        open="O gentle soul!",
        about="O {name}, song of fire and time!",
        between="Let the kitchen hum beneath the moon.",
        close="So sings the evening.",
        hello="O welcome, gentle soul! The morning sings. What verse may I bring you?",
        how="O gentle soul! My heart is light as spring rain. What verse may I bring you?",
        bye="Farewell, gentle soul! The stars will keep your name.",
        thanks="Your thanks, gentle soul, are petals on my page.",
        self="I weave small words from moonlight.",
        unknown="Alas, gentle soul!",
    ),
    "robot": Style(
        who=(
            "robot",
            "friendly robot",
            "old robot",
            "machine",
            "robot from the future",
            "android",
            "kitchen robot",
        ),
        open="Beep boop!",
        about="Beep! {name} loaded.",
        between="Sensors confirm good taste.",
        close="End of message.",
        hello="Beep boop! Greetings, human. State your request.",
        how="Beep boop! All systems are running well, human. State your request.",
        bye="Beep! Goodbye, human. Entering sleep mode.",
        thanks="Beep! Thanks received, human. Joy level is rising.",
        self="My gears are oiled and my lamps are green.",
        unknown="Beep! Error, human.",
    ),
}


def join(*parts: str) -> str:
    """Sentences are joined by one space and empty ones vanish."""
    return " ".join(part for part in parts if part)


def explain(style: str, name: str) -> str:
    """Return the explanation of one technique in one style."""
    voice, (what, how, tip) = STYLES[style], TECHNIQUES[name]
    return join(voice.about.format(name=name), what, how, voice.between, tip, voice.close)


def wrap(style: str, text: str) -> str:
    """A plain sentence said in one style."""
    return join(STYLES[style].open, text, STYLES[style].close)


def say_unknown(style: str) -> str:
    """The honest answer to what lies outside this world."""
    return join(STYLES[style].unknown, UNKNOWN)


def say_self(style: str) -> str:
    """Return the model's answer about itself."""
    return join(STYLES[style].open, SELF, STYLES[style].self)


def name_methods(style: str, food: str, names: tuple[str, ...]) -> str:
    """The model's own list of techniques, each name in double quotes."""
    quoted = [f'"{name}"' for name in names]
    lead = f"Here are {'two' if len(names) == 2 else 'three'} ways to cook {food}."
    last = f"And finally, there is {quoted[-1]}."
    middle = [f"Next, we have {name}." for name in quoted[1:-1]]
    return wrap(style, join(lead, f"First, we have {quoted[0]}.", *middle, last))
