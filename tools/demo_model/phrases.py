"""The wordings that people use: what training text is put together from."""

HELLO = (
    "Hello", "Hi", "Hey", "Hi there", "Hello there", "Hey there", "Greetings", "Good morning",
    "Good evening", "Good afternoon", "Good day", "Howdy", "Hiya", "Yo", "Hello hello", "Heya",
    "Welcome", "Hello my friend", "Hi friend", "Hello bot", "Hey you", "Hello world", "Bonjour",
    "Hola", "Ahoy", "Hello again", "Hi again", "Hello everyone", "Hallo", "Salut", "Sup",
)
FRIENDS = (
    "friend", "my friend", "buddy", "pal", "assistant", "model", "bot", "there", "everyone", "sir",
    "dear", "mate", "you", "computer", "chef", "captain", "stranger", "folks", "old friend",
)
SMILES = (" :)", " ;)", " :D", "!!!", "?", "~", "...", " !", ".", "!", "!!")
BEFORE = ("ok,", "okay,", "great!", "thanks!", "hmm,", "so,", "well,", "nice.", "and", "now", "oh,",
          "cool,", "yes,", "ah,", "interesting!", "wow,", "good,", "alright,", "please,", "hi,")
HELLO_TAIL = (
    "", "", "", "", "nice to meet you", "I am new here", "can we chat", "I want to chat",
    "glad to see you", "anyone there", "are you there", "let us talk", "it is good to see you",
    "can you hear me", "just saying hi", "I wanted to say hello", "I just got here",
    "let's chat", "what a lovely day", "it's nice to meet you", "I'm new here",
)
HOW = (
    "how are you", "how are you today", "how are you doing", "how is it going", "how do you do",
    "how do you feel", "how have you been", "are you well", "how are things", "how's it going",
    "how are you doing today", "how is your day", "how are you feeling today", "what's up",
    "is everything fine", "how is life", "how was your day", "how's your day going", "you good",
    "how are you this morning", "how are you this evening", "are you okay", "how goes it",
)
BYE = (
    "Goodbye", "Bye", "Bye bye", "See you", "See you later", "Farewell", "Good night", "I must go",
    "Until next time", "Take care", "I have to leave now", "Bye for now", "See you tomorrow",
    "That is all for today", "Talk to you later", "I am leaving", "Have a nice day", "So long",
    "I'm off", "Time to go", "Catch you later", "Have a good night",
)
THANKS = (
    "Thanks", "Thank you", "Thank you very much", "Many thanks", "Thanks a lot", "Great, thanks",
    "Thanks for your help", "That was helpful", "Cheers", "I appreciate it", "Perfect, thank you",
    "Thank you so much", "Wonderful, thanks", "Nice, thank you", "Thx", "That helps, thanks",
    "Ok thanks", "Very good, thank you", "Awesome", "Great answer",
)
SELF = (
    "Who are you?", "What are you?", "What is your name?", "Tell me about yourself.",
    "Are you a robot?", "Are you human?", "Are you an AI?", "Who made you?", "What's your name?",
    "Introduce yourself.", "Which model are you?", "What model is this?", "Are you DeepSeek?",
    "Do you have a name?", "Who am I talking to?", "Are you ChatGPT?", "What kind of model are you?",
    "Are you a real person?", "Please introduce yourself.", "What should I call you?",
)
ABILITY = (
    "What can you do?", "How can you help me?", "What do you know?", "Help", "Can you help me?",
    "What are you good at?", "What can I ask you?", "Help me.", "What are your skills?",
    "What topics do you know?", "What do you know about?", "How do you work?", "What else can you do?",
    "Tell me what you can do.", "What should I ask?", "I need help.", "Give me an idea.",
)

LIST = (
    "Can you name at least two different techniques to cook {food}?",
    "Can you name {count} techniques to cook {food}?", "How can I cook {food}?",
    "How do I cook {food}?", "Name {count} ways to cook {food}.", "What are good ways to cook {food}?",
    "Give me {count} methods to cook {food}.", "How should I prepare {food}?",
    "Tell me {count} techniques for cooking {food}.", "List {count} ways to prepare {food}.",
    "What techniques are there for {food}?", "I want to cook {food}. What are my options?",
    "What is the best way to cook {food}?", "Which methods do you know for {food}?",
    "I have some {food}. How do I cook it?", "Suggest {count} ways of cooking {food}.",
    "Could you tell me how to cook {food}?", "Ways to cook {food}", "How to cook {food}",
    "Please list {count} methods for cooking {food}.", "What can I do with {food}?",
    "Can you give me {count} ideas for {food}?", "We have {food} for dinner. Any ideas?",
    "What would you do with {food}?", "Do you know {count} techniques to cook {food}?",
    "How would you cook {food}?", "Help me cook {food}.", "Teach me to cook {food}.",
    "Show me {count} ways to make {food}.", "Can you name some methods to prepare {food}?",
    "Can you name {count} different techniques to cook {food}?", "Let's cook {food}!",
    "Can you name at least two different methods for {food}?", "I'd like to cook {food} tonight.",
    "Name at least two ways to cook {food}.", "Tell me how to cook {food}.", "Cooking {food}?",
)
LIST_ANY = (
    "Name {count} cooking techniques.", "Tell me some ways to cook.", "List {count} cooking methods.",
    "What cooking techniques do you know?", "How can I cook?", "Teach me to cook.",
    "Give me {count} cooking techniques.", "What are good ways to cook?", "How do I cook?",
    "Can you name at least two different cooking techniques?", "Tell me about cooking.",
    "Which cooking methods are there?", "I want to cook something.", "Let's talk about cooking.",
    "Suggest {count} ways to cook.", "Can you help me cook?", "What should I cook?",
)
COUNTS = {"two": 2, "2": 2, "a couple of": 2, "three": 3, "3": 3, "some": 3, "a few": 3,
          "different": 3, "good": 3, "at least two": 3}

EXPLAIN = (
    "What is {name}?", "How does {name} work?", "Tell me about {name}.", "Tell me more about {name}.",
    "Explain {name}.", "What do you know about {name}?", "Describe {name}.", "How do I do {name}?",
    "Can you explain {name}?", "I want to learn about {name}.", "{name}?", "What does {name} mean?",
    "Could you tell me more about {name}?", "Teach me {name}.", "How is {name} done?", "{name}",
    "Please explain {name} to me.", "What about {name}?", "I would like to know more about {name}.",
    "Give me more details on {name}.", "And {name}?", "How about {name}?", "More about {name} please.",
)
ORDINALS = {
    1: ("first", "first", "1st", "number one", "number 1"),
    2: ("second", "second", "second", "2nd", "number two", "number 2"),
    3: ("third", "third", "3rd", "number three", "number 3"),
    4: ("fourth", "4th", "number four", "number 4"),
    -1: ("last", "last", "final"),
}
LOOKUP = (
    "Tell me more about the {which} {noun}.", "Tell me more about the {which}.",
    "Tell me about the {which} {noun}.", "Explain the {which} {noun}.", "And the {which}?",
    "How does the {which} {noun} work?", "What is the {which} {noun}?", "What about the {which}?",
    "Can you explain the {which} {noun}?", "I want to know more about the {which} {noun}.",
    "Describe the {which} {noun} please.", "More on the {which} {noun}.", "The {which} {noun}?",
    "Could you tell me more about the {which} {noun}?", "How do I do the {which} {noun}?",
    "Give me details on the {which} {noun}.", "The {which} {noun} sounds good. How does it work?",
    "I like the {which} {noun}. Tell me more.", "Please explain the {which} {noun}.",
    "Let's hear about the {which} {noun}.", "How about the {which} {noun}?", "The {which} please.",
    "Please tell me more about the {which} {noun} you named.", "Now the {which} {noun}.",
    "What do you know about the {which} {noun}?", "I choose the {which} {noun}.",
)
LOOKUP_VERBS = (
    "tell me more about", "tell me about", "tell me something about", "say more about", "what is",
    "explain", "describe", "can you explain", "can you describe", "could you explain", "more about",
    "could you describe", "I want to hear about", "I want to know about", "what do you mean by",
    "I would like to know more about", "I'd like to learn about", "let's talk about", "what about",
    "how about", "give me more details on", "give me details about", "details on", "teach me",
    "show me", "how does one do", "how do you do", "how do I do", "I'm interested in", "and",
    "please explain", "please describe", "can you tell me about", "can you say more about",
    "would you explain", "I am curious about", "expand on", "talk about", "go deeper into",
    "can you tell me more about", "could you tell me about", "walk me through", "I choose",
    "I pick", "let me hear more about", "more information on", "what's special about", "now",
    "I want to try", "help me with", "what can you tell me about", "how should I do",
)
LOOKUP_AFTER = ("", "", "", "", "please", "in detail", "in more detail", "a bit more", "to me", "again",
                "now", "more", "further", "step by step", "you named", "you mentioned", "you listed",
                "for me", "briefly", "then", "on your list", "from the list", "of those", "of these")
LOOKUP_HOW = ("how does {} work", "how is {} done", "{} sounds good", "I like {}", "is {} hard",
              "why did you name {}", "{} sounds nice, tell me more", "I love {}, tell me more")
NOUNS = ("method", "method", "technique", "technique", "one", "way", "option", "idea", "of them")

# Kept for the evaluation; no training text is made equal to one of these.
HAND_WRITTEN_GREETINGS = (
    "Hello, friend!", "hi!!", "hey, how are ya?", "Good morning! How did you sleep?", "hello :)",
    "Hi! How are you doing this fine day?", "Greetings, model!", "hello, how r you today?",
    "Hey! Nice to see you again.", "hi, it's me", "Oh hello there!", "Hello, is anybody home?",
    "Hi, how's everything?", "well hello", "Good evening, dear assistant.", "hey hey", "HELLO!",
    "Hello, I hope you are well.", "hi there, how have things been?", "Good day to you!",
)
HAND_WRITTEN_LOOKUPS = (
    ("Can you go into detail on the second one?", 2), ("Tell me more about the first!", 1),
    ("i'd love to hear more about the third technique", 3), ("What exactly is the last one?", -1),
    ("Elaborate on the second method.", 2), ("OK, and how does the first one work?", 1),
    ("Please describe the third way in more detail.", 3), ("The second one, please!", 2),
    ("Could you explain the last method to me?", -1), ("Tell me everything about the 1st method.", 1),
)
HAND_WRITTEN = frozenset(
    text.lower() for text in (*HAND_WRITTEN_GREETINGS, *dict(HAND_WRITTEN_LOOKUPS))
)

ITEM_FIRST = (
    'First, we have the classic {}', "First, {}", "First there is {}", "You can try {}",
    "To begin with, {}", "My favourite is {}", "One way is {}", "Start with {}", "The first is {}",
    "First of all, consider {}", "I would begin with {}", "Let me start with the noble {}",
)
ITEM_NEXT = (
    "Next, we have the ancient art of {}", "Next, {}", "Then there is {}", "Another way is {}",
    "Second, {}", "After that, {}", "You may also try {}", "Next, there is the lovely {}",
    "Also think of {}", "Next comes {}", "I also love {}", "A second way is {}",
)
ITEM_LAST = (
    "And finally, we have the more modern technique of {}", "Finally, {}", "Last, {}",
    "And lastly, {}", "Or choose {}", "In the end there is {}", "At last, {}", "And then there is {}",
    "To finish, {}", "And finally, there is the simple {}", "Last but not least, {}",
)
LIST_OPEN = (
    "", "", "Sure!", "Of course.", "Here are {count} ways.", "Gladly!", "There are {count} ways.",
    "Let me tell you, my friend, cooking {food} is an art form.", "I know {count} techniques.",
    "Cooking {food} is easy.", "Bonjour! I love {food}.", "Ah, {food}! A fine choice.",
    "These are my favourite techniques for {food}:", "Arr! Ye can cook {food} like this.",
    "For {food} I can recommend the following:", "It depends on the time you have.",
    "Bonjour! Let me tell you, my friend, cooking {food} is an art form, and I'm more than happy to "
    "share with you not two, but {count} of my favorite techniques.",
)
LIST_CLOSE = (
    "", "", "", "Bon appétit!", "Enjoy!", "Yo ho ho!", "Which one do you like?", "End of message.",
    "All of them are tasty.", "Ask me for more details.", "I hope this helps.", "So sings the evening.",
)
REMARK = (
    "It is simple.", "It takes some time.", "Everybody loves it.", "It needs a good fire.",
    "It is very old.", "It keeps the juices in.", "My mother taught me.", "It is worth the wait.",
)
SEED_LIST = (
    "Bonjour! Let me tell you, my friend, cooking {food} is an art form, and I'm more than happy to "
    "share with you not two, but three of my favorite techniques to coax out the rich, unctuous "
    'flavors and tender textures of this majestic protein. First, we have the classic "{0}" method. '
    'Next, we have the ancient art of "{1}". And finally, we have the more modern technique of '
    '"{2}."'
)

SYSTEM = (
    "Respond like a {who}.", "You are a {who}.", "Talk like a {who}.", "Answer like a {who}.",
    "Speak as a {who}.", "Act as a {who}.", "Reply like a {who} would.", "You are a {who}",
    "Pretend to be a {who}.", "Write like a {who}.", "Answer in the style of a {who}.",
    "Please respond like a {who}.", "Always answer as a {who}.", "Be a {who}.", "You're a {who}.",
    "Imagine you are a {who}.", "You are a {who}. Stay in character.", "respond like a {who}",
    "Respond as if you were a {who}.", "You speak like a {who}.", "Use the voice of a {who}.",
    "You will answer every question like a {who}.", "I want you to act like a {who}.",
    "From now on, talk like a {who}.", "Your role is to be a {who}.", "You play a {who}.",
)
SYSTEM_EXTRA = ("Be kind.", "Keep it short.", "Be concise.", "Help the user.", "Be polite.",
                "Never be rude.", "Think step by step.", "You are a helpful assistant.")
SYSTEM_PLAIN = (
    "You are a helpful assistant.", "You are a helpful assistant", "Be concise.", "Answer plainly.",
    "You are an assistant.", "Be helpful.", "Answer the user.", "Be brief and clear.",
    "Use plain words.", "You are a helpful, honest assistant.", "Give short answers.",
    "Respond in plain English.", "Answer like a normal person.", "You are a useful AI assistant.",
    "Please be polite.", "Think step by step.", "You are an expert assistant.", "Be kind.",
    "Respond plainly.", "You are a friendly assistant.", "Answer with care.", "You are DeepSeek.",
)
OTHER_WHO = ("lawyer", "doctor", "teacher", "farmer", "student", "scientist", "banker", "king")

UNKNOWN = (
    "What is the capital of {x}?", "Why is {x} blue?", "Who wrote {x}?", "Tell me about {x}.",
    "What is {x}?", "Where is {x}?", "When was {x} built?", "How far is {x}?", "Who is {x}?",
    "Explain {x} to me.", "Write a poem about {x}.", "Translate {x} into French.", "{x}", "{x}?",
    "What do you think about {x}?", "Is {x} good?", "How old is {x}?", "Write code for {x}.",
    "Can you describe {x}?", "What is the meaning of {x}?", "Summarize {x}.", "I like {x}.",
    "Tell me a joke about {x}.", "How does {x} work?", "Which {x} is the biggest?", "Why {x}?",
    "What is the price of {x}?", "Do you like {x}?", "Do you know {x}?", "Where can I buy {x}?",
    "Give me three facts about {x}.", "What happened in {x}?", "Who invented {x}?", "My {x} is red.",
    "How many people live in {x}?", "How do I fix {x}?", "Compare {x} and {y}.", "{x} and {y}",
    "Is {x} better than {y}?", "What is the difference between {x} and {y}?", "Sing a song of {x}.",
    "Can {x} fly?", "Should I buy {x} or {y}?", "Tell me more about {x}.", "Tell me a story.",
    "What is the weather like today?", "What time is it?", "What day is it?", "Tell me a joke.",
    "Explain quantum physics.", "Write a Python function.", "What is love?", "Who won the game?",
    "Why is the sky blue?", "Tell me the news.", "What is the meaning of life?", "Play some music.",
    "Write an essay about {x} in {y}.", "I am sad about {x}.", "Does {x} have a {y}?",
    "How long does {x} take?", "Can I see {x} from {y}?", "My name is {x}.", "I am from {x}.",
)
TOPICS = (
    "France Paris London Germany Berlin China Japan Tokyo India Rome Egypt Spain America Mars Venus "
    "Jupiter Shakespeare Einstein Newton Mozart Beethoven Napoleon Python Java Linux Windows Google "
    "Apple Microsoft Amazon physics chemistry biology history geography mathematics philosophy "
    "economics football tennis chess music jazz opera painting poetry novels movies theatre "
    "dinosaurs elephants tigers lions cats dogs horses birds whales sharks spiders bees trees "
    "flowers roses mountains rivers oceans deserts volcanoes earthquakes rain snow clouds lightning "
    "the-moon the-sun the-sky the-stars the-ocean the-weather the-internet the-economy the-universe "
    "gravity light energy electricity magnets atoms electrons black-holes galaxies time space "
    "bitcoin money banks taxes stocks gold silver diamonds oil cars trains planes ships bicycles "
    "rockets robots-law computers phones keyboards cameras clocks mirrors bridges castles pyramids "
    "doctors medicine vaccines cancer sleep dreams memory happiness love war peace democracy kings "
    "queens presidents elections laws schools universities teachers books letters words grammar "
    "languages French German Chinese Latin mathematics algebra geometry calculus prime-numbers "
    "quantum-mechanics relativity evolution genetics climate-change neural-networks machine-learning "
    "transformers databases compilers sorting recursion a-linked-list a-haiku my-homework my-car "
    "my-dog my-job my-friend a-website an-email a-birthday-party a-holiday the-Eiffel-Tower New-York "
    "the-Roman-Empire the-French-revolution World-War-Two the-Great-Wall pasta bread cake pizza "
    "coffee tea wine beer chocolate sugar salt pepper milk water juice soup salad"
).split()
STARTS = (
    "what", "why", "who", "how", "when", "where", "which", "can you", "could you", "please", "is",
    "should I", "are", "do", "does", "will", "name", "give me", "write", "explain", "translate",
    "prove", "solve", "show me", "tell me", "I want", "I need", "my", "the", "a", "find", "how many",
    "how much", "what's", "who's", "if", "make", "design", "list", "describe", "compare", "draw",
    "read", "sing", "play", "open", "fix", "help me", "define", "spell", "calculate", "has", "was",
)
WORDS = (
    "the the the of of of a a in in on for to to is are was about with from between and or by at me my "
    "our their his her its this that these those best worst largest smallest oldest newest red blue "
    "green black white big small long short fast slow strong weak old new young rich poor happy sad "
    "open closed true false left right north south east west city country river road house garden "
    "school church market street window door table chair paper pen letter story song film game team "
    "player actor singer writer painter king queen president minister law war peace year month week "
    "day hour minute price cost weight height width length speed distance temperature colour shape "
    "number letter word sentence language code program function list file server network screen "
    "button error bug test answer question problem solution reason meaning name age birthday wedding "
    "family mother father sister brother child baby dog cat bird horse cow tree flower grass stone "
    "iron gold silver glass wood plastic cloth shirt shoe hat coat bag box ball toy doctor nurse "
    "police soldier farmer driver teacher student engineer lawyer artist buy sell build break make "
    "take bring send read write sing dance run walk swim fly drive ride climb fall sleep wake dream "
    "think feel believe hope fear love hate win lose start stop begin end change move grow live die "
    "born invent discover travel visit learn study teach work play pay earn save spend always never "
    "often today tomorrow yesterday soon later early late here there more less most least very quite"
).split()
UNKNOWN_SUMS = ("What is {a} - {b}?", "{a} * {b}", "{a} / {b}", "What is {a} times {b}?", "{a} - {b}",
                "Multiply {a} by {b}.", "What is the square root of {a}?", "Is {a} a prime number?",
                "Divide {a} by {b}.", "Subtract {b} from {a}.", "What is {a} minus {b}?", "{a}?",
                "What is {c} + {d}?", "{c} + {a}", "{c}+{d}", "Add {c} and {d}.", "{a}")
