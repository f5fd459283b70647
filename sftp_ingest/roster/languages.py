"""Languages by the names that Clever's API has for them, with their ISO 639 codes, and other names in use."""

from __future__ import annotations

from collections.abc import Mapping

LANGUAGES: Mapping[str, str] = {
    "English": "eng en", "Afrikaans": "afr af", "Albanian": "sqi alb sq", "Amharic": "amh am", "Arabic": "ara ar", "Armenian": "hye arm hy",
    "Azerbaijani": "aze az", "Basque": "eus baq eu", "Belarusian": "bel be", "Bengali": "ben bn", "Bosnian": "bos bs", "Bulgarian": "bul bg",
    "Burmese": "mya bur my", "Cabo Verdean": "cpp kea", "Cantonese": "yue", "Catalan": "cat ca", "Cebuano": "ceb", "Chichewa": "nya ny",
    "Chinese": "chi zho zh", "Corsican": "cos co", "Croatian": "hrv hr scr", "Czech": "ces cze cs", "Danish": "dan da", "Dari": "prs",
    "Dutch": "nld dut nl", "Estonian": "est et", "Farsi": "fas per fa pes", "Filipino": "fil", "Finnish": "fin fi", "French": "fra fre fr",
    "Frisian": "fry fy", "Galician": "glg gl", "Georgian": "kat geo ka", "German": "deu ger de", "Greek": "ell gre el", "Gujarati": "guj gu",
    "Haitian Creole": "hat ht", "Hausa": "hau ha", "Hawaiian": "haw", "Hebrew": "heb he iw", "Hindi": "hin hi", "Hmong": "hmn",
    "Hungarian": "hun hu", "Ilocano": "ilo", "Icelandic": "isl ice is", "Igbo": "ibo ig", "Indonesian": "ind id", "Irish": "gle ga",
    "Italian": "ita it", "Japanese": "jpn ja", "Javanese": "jav jv", "Kannada": "kan kn", "Karen": "kar ksw", "Kazakh": "kaz kk", "Khmer": "khm km",
    "Kinyarwanda": "kin rw", "Korean": "kor ko", "Kurdish (Kurmanji)": "kur ku kmr", "Kyrgyz": "kir ky", "Laotian": "lao lo", "Latvian": "lav lv",
    "Lithuanian": "lit lt", "Luxembourgish": "ltz lb", "Macedonian": "mkd mac mk", "Malagasy": "mlg mg", "Malay": "msa may ms",
    "Malayalam": "mal ml", "Maltese": "mlt mt", "Mandarin": "cmn", "Maori": "mri mao mi", "Marathi": "mar mr", "Marshallese": "mah mh",
    "Mongolian": "mon mn", "Nepali": "nep ne npi", "Norwegian": "nob nor no nb", "Odia": "ori or ory", "Oromo": "orm om", "Pashto": "pus ps",
    "Polish": "pol pl", "Portuguese": "por pt", "Punjabi": "pan pa", "Romanian": "ron rum ro", "Russian": "rus ru", "Samoan": "smo sm",
    "Scots Gaelic": "gla gd", "Serbian": "srp scc sr", "Sesotho": "sot st", "Shona": "sna sn", "Sindhi": "snd sd", "Sinhala": "sin si",
    "Slovak": "slk slo sk", "Slovenian": "slv sl", "Somali": "som so", "Spanish": "spa es", "Sundanese": "sun su", "Swahili": "swa sw swh",
    "Swedish": "swe sv", "Tagalog": "tgl tl", "Tajik": "tgk tg", "Tamil": "tam ta", "Tatar": "tat tt", "Telugu": "tel te", "Thai": "tha th",
    "Tigrinya": "tir ti", "Turkish": "tur tr", "Turkmen": "tuk tk", "Ukrainian": "ukr uk", "Urdu": "urd ur", "Uyghur": "uig ug", "Uzbek": "uzb uz",
    "Vietnamese": "vie vi", "Welsh": "cym wel cy", "Xhosa": "xho xh", "Yiddish": "yid yi", "Yoruba": "yor yo", "Zulu": "zul zu",
    # languages that Clever names too, as far as can be told: here under the English name of ISO 639
    "Afar": "aar aa", "Akan": "aka ak", "American Sign Language": "ase", "Aramaic": "arc", "Assamese": "asm as", "Assyrian Neo-Aramaic": "aii",
    "Aymara": "aym ay", "Bambara": "bam bm", "Bashkir": "bak ba", "Chaldean Neo-Aramaic": "cld", "Chamorro": "cha ch", "Chechen": "che ce",
    "Cherokee": "chr", "Choctaw": "cho", "Chuukese": "chk", "Cree": "cre cr", "Dakota": "dak", "Dinka": "din", "Divehi": "div dv",
    "Dzongkha": "dzo dz", "Esperanto": "epo eo", "Ewe": "ewe ee", "Fijian": "fij fj", "Fulah": "ful ff", "Ganda": "lug lg", "Guarani": "grn gn",
    "Hakka Chinese": "hak", "Inuktitut": "iku iu", "Inupiaq": "ipk ik", "K'iche'": "quc", "Kashmiri": "kas ks", "Kongo": "kon kg", "Konkani": "kok",
    "Kosraean": "kos", "Kpelle": "kpe", "Krio": "kri", "Lakota": "lkt", "Latin": "lat la", "Lingala": "lin ln", "Maithili": "mai", "Mam": "mam",
    "Mandinka": "mnk", "Mende": "men", "Min Nan Chinese": "nan", "Navajo": "nav nv", "Ndebele": "nde nd", "Nuer": "nus", "Ojibwa": "oji oj",
    "Palauan": "pau", "Pohnpeian": "pon", "Quechua": "que qu", "Rohingya": "rhg", "Romansh": "roh rm", "Romany": "rom", "Rundi": "run rn",
    "Sango": "sag sg", "Sanskrit": "san sa", "Soninke": "snk", "Swati": "ssw ss", "Tibetan": "tib bod bo", "Tonga (Tonga Islands)": "ton to",
    "Tsonga": "tso ts", "Tswana": "tsn tn", "Twi": "twi tw", "Venda": "ven ve", "Wolof": "wol wo", "Wu Chinese": "wuu", "Yupik": "ypk esu",
}  # fmt: skip
"""Name → codes: the one that Clever's documents give (ISO 639-3; of Chinese the older chi), then the others of ISO 639-1, -2 and -3 (contract 1.6.5)."""

ALIASES: Mapping[str, str] = {
    "persian": "Farsi", "dari persian": "Farsi", "farsi persian": "Farsi", "persian farsi": "Farsi", "espanol": "Spanish", "castilian": "Spanish",
    "spanish castilian": "Spanish", "mandarin chinese": "Mandarin", "chinese mandarin": "Mandarin", "putonghua": "Mandarin",
    "cantonese chinese": "Cantonese", "chinese cantonese": "Cantonese", "yue chinese": "Cantonese", "chinese yue": "Cantonese",
    "myanmar": "Burmese", "burmese myanmar": "Burmese", "haitian": "Haitian Creole", "creole": "Haitian Creole", "creole haitian": "Haitian Creole",
    "haitian french creole": "Haitian Creole", "french creole": "Haitian Creole", "kreyol": "Haitian Creole",
    "cape verdean": "Cabo Verdean", "cape verdean creole": "Cabo Verdean", "cabo verdean creole": "Cabo Verdean", "kabuverdianu": "Cabo Verdean",
    "kriolu": "Cabo Verdean", "crioulo": "Cabo Verdean", "sotho": "Sesotho", "southern sotho": "Sesotho", "bangla": "Bengali", "oriya": "Odia",
    "kiswahili": "Swahili", "cambodian": "Khmer", "central khmer": "Khmer", "cambodian khmer": "Khmer", "khmer cambodian": "Khmer",
    "pilipino": "Filipino", "modern greek": "Greek", "greek modern": "Greek", "kurdish": "Kurdish (Kurmanji)", "kurmanji": "Kurdish (Kurmanji)",
    "kirghiz": "Kyrgyz", "kirgiz": "Kyrgyz", "uighur": "Uyghur", "scottish gaelic": "Scots Gaelic", "gaelic scottish": "Scots Gaelic",
    "irish gaelic": "Irish", "gaelic irish": "Irish", "nyanja": "Chichewa", "chewa": "Chichewa", "chewa nyanja": "Chichewa", "slovene": "Slovenian",
    "iloko": "Ilocano", "ilokano": "Ilocano", "visayan": "Cebuano", "bisaya": "Cebuano", "sinhalese": "Sinhala", "singhalese": "Sinhala",
    "panjabi": "Punjabi", "pushto": "Pashto", "pashtu": "Pashto", "pushtu": "Pashto", "moldovan": "Romanian", "moldavian": "Romanian",
    "bokmal": "Norwegian", "norwegian bokmal": "Norwegian", "flemish": "Dutch", "dutch flemish": "Dutch", "mong": "Hmong", "ibo": "Igbo",
    "ebon": "Marshallese", "oromiffa": "Oromo", "afan oromo": "Oromo", "oromifa": "Oromo", "gallegan": "Galician", "letzeburgesch": "Luxembourgish",
    "azeri": "Azerbaijani", "western frisian": "Frisian", "rwanda": "Kinyarwanda", "asl": "American Sign Language",
    "sign language": "American Sign Language", "luganda": "Ganda", "tongan": "Tonga (Tonga Islands)", "kirundi": "Rundi",
    "taiwanese": "Min Nan Chinese", "hokkien": "Min Nan Chinese", "fukienese": "Min Nan Chinese", "fujianese": "Min Nan Chinese",
    "chinese taiwanese": "Min Nan Chinese", "min nan": "Min Nan Chinese", "hakka": "Hakka Chinese", "chinese hakka": "Hakka Chinese",
    "shanghainese": "Wu Chinese", "quiche": "K'iche'", "k iche": "K'iche'", "trukese": "Chuukese", "fulani": "Fulah", "fula": "Fulah",
    "pulaar": "Fulah", "romani": "Romany", "assyrian": "Assyrian Neo-Aramaic", "chaldean": "Chaldean Neo-Aramaic", "chamoru": "Chamorro",
    "ojibwe": "Ojibwa", "navaho": "Navajo", "dine": "Navajo", "mandingo": "Mandinka", "setswana": "Tswana", "ponapean": "Pohnpeian",
}  # fmt: skip
"""Other names in lower case, without punctuation → the name above."""
