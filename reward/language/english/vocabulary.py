"""English words that a parser tags alike and prompts do not mean alike: media, parts of a picture, measures, people.

Kinds of words, each a sample of what prompts use; none is there for a single prompt.
"""

# a picture of something: not a thing unless it hangs on a wall
MEDIA = frozenset(
    "photo photograph picture image painting drawing sketch illustration render rendering portrait artwork art"
    " photography shot view scene closeup close-up wallpaper vector clipart concept design diagram"
    " engraving etching lithograph watercolor watercolour collage mosaic cartoon anime manga comic screenshot footage"
    " snapshot depiction selfie cinematography still film movie film noir visualization 3d".split()
)
# how it is made or how good it is
STYLE = frozenset(
    "8k 4k 16k 2k hd uhd hdr fhd artstation deviantart cgsociety pinterest behance dribbble pixiv unsplash flickr"
    " bokeh composition detail details quality resolution style lighting masterpiece octane unreal engine"
    " photorealistic photorealism realism realistic hyperrealistic hyperrealism surrealism impressionism expressionism"
    " cubism minimalism baroque fantasy sci-fi cyberpunk steampunk vaporwave synthwave horror aesthetic aesthetics mood"
    " atmosphere ambiance ambience vibe tone tones palette depth focus lens aperture exposure iso dof f/1.8 canon"
    " nikon sony kodak leica fujifilm 35mm 50mm 85mm 70mm imax vray v-ray blender maya zbrush cinema4d raytracing"
    " ray-tracing render rendering shading shader texture textures contrast saturation brightness perspective"
    " symmetry intricacy elegance beauty wide-angle panorama canvas oil acrylic ink pastel charcoal pencil gouache"
    " trending award-winning seed version beauty ratio".split()
)
# the parts of a picture or of a thing where something is
PLACES = frozenset(
    "background foreground front middle center centre side left right top bottom distance corner edge back end"
    " midground sides corners edges inside outside upside air midair mid-air".split()
)
# "a group of people" are people
GROUPS = frozenset(
    "group pair bunch set lot couple number variety kind type sort breed piece row pile stack crowd herd flock"
    " series collection array assortment dozen line cluster part selection range amount handful load ton trio pack"
    " swarm plenty majority rest host multitude mass bit species version section glimpse".split()
)
# what is said about a thing and is none
MEASURES = frozenset(
    "color colour shape size style kind type pattern texture material pose position posture angle degree level"
    " direction way height width length weight age mood expression manner order fashion form motion movement action"
    " time times moment day night morning evening afternoon year century era season stage development attempt"
    " use nature variety addition general detail view place look order turn course fact mid-air midair flight"
    " inch inches cm mm meter metre mile %".split()
)
WRITING = frozenset("text caption headline title phrase message inscription quote slogan writing name label".split())
# "we can see a cat" says no more than "a cat"
SEEING = frozenset(
    "see observe notice find show depict display feature contain include present capture illustrate portray"
    " represent".split()
)
# "a row of motorcycles": motorcycles, and it says how they are
ARRANGEMENTS = frozenset(
    "group bunch set row pile stack crowd herd flock series collection array assortment cluster line pack swarm section"
    " part selection".split()
)
DIRECTIONS = frozenset(
    "up down out back forward forwards backward backwards apart straight sideways outward outwards inward inwards"
    " upward upwards downward downwards behind nearby together overhead open closed outside inside".split()
)
BODY = frozenset(
    "arm leg hand foot head knee elbow torso face chest shoulder finger eye body wrist ankle thigh hip forearm palm toe"
    " neck waist back wing tail ear mouth".split()
)
KINDS = frozenset("kind type sort breed variety species style".split())
# "playing tennis" and "doing a trick" are what somebody does
ACTING = frozenset("do perform".split())
COMMANDS = frozenset("draw generate create show make paint imagine design render depict illustrate".split())
SAYING = frozenset("say read spell write label title call name".split())
PEOPLE = frozenset(
    "person man woman boy girl child kid baby people guy lady someone somebody player rider worker soldier king queen"
    " prince princess wizard knight chef doctor nurse artist singer dancer driver skier surfer skateboarder snowboarder"
    " pitcher batter catcher astronaut robot character figure subject human toddler teenager adult boy couple crowd"
    " gentleman athlete student teacher clown pirate officer policeman fireman cowboy warrior".split()
)
ANIMALS = frozenset(
    "dog cat horse cow sheep pig bird chicken duck fish elephant lion tiger bear rabbit mouse monkey snake frog panda"
    " giraffe zebra goat wolf fox deer squirrel penguin owl parrot kitten puppy corgi raccoon animal dragon creature"
    " monster unicorn dinosaur shark whale dolphin".split()
)
COLOURS = frozenset(
    "red orange yellow green cyan blue purple magenta pink brown black white grey gray tan beige teal turquoise violet"
    " maroon navy gold golden silver cream".split()
)
QUALITY = frozenset(
    "detailed realistic photorealistic hyperrealistic hyper-realistic cinematic intricate vivid centered centred"
    " symmetrical minimalist minimalistic volumetric dramatic epic stunning surreal hyperdetailed ultra-detailed"
    " ultrarealistic ultra-realistic sharp blurry noir masterful elegant vibrant colorful moody atmospheric retro"
    " vintage gothic psychedelic rendered stylized award-winning high-quality photographic isometric abstract".split()
)
INDEFINITE = frozenset("someone somebody everyone everybody".split())
DONE_BY_BEINGS = frozenset(
    "hold ride chase eat watch carry push throw read look smoke drink play wear walk run jump sleep smile lean kick"
    " cook paint write drive pull stand sit lie kneel dance sing swing brush catch lick bite pet feed use".split()
)
QUANTITIES = frozenset(
    "several many few multiple various numerous some other more most all both every each another any such same own"
    " certain much enough lots".split()
)
DEGREES = frozenset("very quite too so really extremely".split())


def ing_form(verb: str) -> str:
    """A verb's present participle from its base form.

    Example:
        >>> ing_form("sit"), ing_form("ride"), ing_form("lie"), ing_form("eat")
        ('sitting', 'riding', 'lying', 'eating')
    """
    if verb.endswith("ie"):
        return f"{verb[:-2]}ying"
    if verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")) and len(verb) > 2:
        return f"{verb[:-1]}ing"
    vowels = "aeiou"
    doubled = (
        len(verb) > 2 and verb[-1] not in vowels + "wxy" and verb[-2] in vowels and verb[-3] not in vowels
        and sum(letter in vowels for letter in verb) == 1
    )  # fmt: skip
    return f"{verb}{verb[-1] if doubled else ''}ing"
