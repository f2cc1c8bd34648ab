"""Quantities: percent, temperatures, units of measure and what is per what."""

from __future__ import annotations

import re

from sopro_np.text.rule import ALONE, NUMBER, SIGN, Rule, attribute, rule, stop_after
from sopro_np.text.spell import is_one, number

# symbol -> (one, many). A symbol counts only after a number.
UNITS = {
    "mm": ("millimeter", "millimeters"), "cm": ("centimeter", "centimeters"), "m": ("meter", "meters"),
    "km": ("kilometer", "kilometers"), "nm": ("nanometer", "nanometers"), "μm": ("micrometer", "micrometers"),
    "um": ("micrometer", "micrometers"), "mi": ("mile", "miles"), "ft": ("foot", "feet"), "yd": ("yard", "yards"),
    "yds": ("yard", "yards"), "kg": ("kilogram", "kilograms"), "g": ("gram", "grams"), "mg": ("milligram", "milligrams"),
    "μg": ("microgram", "micrograms"), "t": ("ton", "tons"), "lb": ("pound", "pounds"), "lbs": ("pound", "pounds"),
    "oz": ("ounce", "ounces"), "l": ("liter", "liters"), "L": ("liter", "liters"), "ml": ("milliliter", "milliliters"),
    "mL": ("milliliter", "milliliters"), "cl": ("centiliter", "centiliters"), "dl": ("deciliter", "deciliters"), "dL": ("deciliter", "deciliters"),
    "gal": ("gallon", "gallons"), "qt": ("quart", "quarts"), "pt": ("pint", "pints"), "tsp": ("teaspoon", "teaspoons"),
    "tbsp": ("tablespoon", "tablespoons"), "Tbsp": ("tablespoon", "tablespoons"), "s": ("second", "seconds"),
    "sec": ("second", "seconds"), "secs": ("second", "seconds"), "ms": ("millisecond", "milliseconds"),
    "μs": ("microsecond", "microseconds"), "us": ("microsecond", "microseconds"), "ns": ("nanosecond", "nanoseconds"),
    "min": ("minute", "minutes"), "mins": ("minute", "minutes"), "h": ("hour", "hours"), "hr": ("hour", "hours"),
    "hrs": ("hour", "hours"), "wk": ("week", "weeks"), "wks": ("week", "weeks"), "yr": ("year", "years"),
    "yrs": ("year", "years"), "Hz": ("hertz", "hertz"), "kHz": ("kilohertz", "kilohertz"),
    "MHz": ("megahertz", "megahertz"), "GHz": ("gigahertz", "gigahertz"), "B": ("byte", "bytes"),
    "KB": ("kilobyte", "kilobytes"), "kB": ("kilobyte", "kilobytes"), "MB": ("megabyte", "megabytes"),
    "GB": ("gigabyte", "gigabytes"), "TB": ("terabyte", "terabytes"), "PB": ("petabyte", "petabytes"),
    "KiB": ("kibibyte", "kibibytes"), "MiB": ("mebibyte", "mebibytes"), "GiB": ("gibibyte", "gibibytes"),
    "kb": ("kilobit", "kilobits"), "Mb": ("megabit", "megabits"), "Gb": ("gigabit", "gigabits"),
    "kbps": ("kilobit per second", "kilobits per second"), "Mbps": ("megabit per second", "megabits per second"),
    "Gbps": ("gigabit per second", "gigabits per second"), "W": ("watt", "watts"), "kW": ("kilowatt", "kilowatts"),
    "MW": ("megawatt", "megawatts"), "GW": ("gigawatt", "gigawatts"), "kWh": ("kilowatt hour", "kilowatt hours"),
    "Wh": ("watt hour", "watt hours"), "mAh": ("milliampere hour", "milliampere hours"), "V": ("volt", "volts"),
    "kV": ("kilovolt", "kilovolts"), "mV": ("millivolt", "millivolts"), "mA": ("milliampere", "milliamperes"),
    "J": ("joule", "joules"), "kJ": ("kilojoule", "kilojoules"), "cal": ("calorie", "calories"),
    "kcal": ("kilocalorie", "kilocalories"), "N": ("newton", "newtons"), "Pa": ("pascal", "pascals"),
    "hPa": ("hectopascal", "hectopascals"), "kPa": ("kilopascal", "kilopascals"), "dB": ("decibel", "decibels"),
    "px": ("pixel", "pixels"), "fps": ("frame per second", "frames per second"), "rpm": ("R P M", "R P M"),
    "mph": ("mile per hour", "miles per hour"), "kmh": ("kilometer per hour", "kilometers per hour"),
    "kph": ("kilometer per hour", "kilometers per hour"), "ha": ("hectare", "hectares"), "dpi": ("D P I", "D P I"),
    "Ω": ("ohm", "ohms"), "ppm": ("part per million", "parts per million"),
    "mmHg": ("millimeter of mercury", "millimeters of mercury"), "mol": ("mole", "moles"), "hp": ("horsepower", "horsepower"), "cc": ("C C", "C C"), "K": ("kelvin", "kelvin"),
    "fl oz": ("fluid ounce", "fluid ounces"), "lbf": ("pound of force", "pounds of force"), "psi": ("P S I", "P S I"),
}  # fmt: skip
UNITS |= {
    f"{short} {unit}": (f"{long} {UNITS[unit][0]}", f"{long} {UNITS[unit][1]}")
    for short, long in (("sq", "square"), ("cu", "cubic"))
    for unit in ("ft", "mi", "km", "m", "yd")
} | {"sq in": ("square inch", "square inches"), "cu in": ("cubic inch", "cubic inches")}
# after 60m these are counted in millions, not measured in meters
COUNTS = (
    r" (?:people|viewers|users|customers|voters|votes|copies|followers|subscribers|downloads|views|euros|dollars|pounds|yen|"
    r"jobs|homes|barrels|shares|households|passengers|visitors|tourists|children|adults|workers|pupils|students|residents|"
    r"inhabitants|members|readers|listeners|years|patients|cases|doses|vehicles|cars|phones|units|rows|requests|tokens|streams|items|words|books|jobs|hits|clicks|points|plays|installs|parameters|records|messages)\b"
)
COUNTED = re.compile(COUNTS)
RACES = re.compile(r" (?:dash|sprint|race|run|hurdles|relay|freestyle|butterfly|backstroke|swim|radius|limit|zone)\b")
POWERS = {"2": "square", "3": "cubic"}
POWERS_AFTER = {"2": "squared", "3": "cubed"}
PER = {"sec": "second", "s": "second", "min": "minute", "h": "hour", "hr": "hour", "day": "day", "d": "day", "week": "week",
       "month": "month", "mo": "month", "year": "year", "yr": "year", "night": "night", "person": "person", "hour": "hour",
       "second": "second", "minute": "minute", "word": "word", "page": "page", "unit": "unit"}  # fmt: skip
WORDS = r"( (?:hundred|thousand|million|billion|trillion))?"
DEGREES = {"C": "Celsius", "F": "Fahrenheit", "K": "Kelvin"}


def _unit(m: re.Match[str]) -> str | None:
    amount, scale, between, symbol, power, per = m[1], m[2] or "", m[3], m[4], m[5], m[6]
    if symbol not in UNITS or (
        len(symbol) == 1
        and symbol in "BNJWK"
        and (between != " " or re.match(r" [A-Za-z]", m.string[m.end() : m.end() + 2]))
        and (symbol != "W" or between == " ")
    ):
        return None
    if symbol == "m" and between != "-" and COUNTED.match(m.string, m.end()):
        return f"{number(amount)} million"  # 60m viewers
    describes = (
        between == "-" or RACES.match(m.string, m.end()) or m.string[m.end() : m.end() + 1] == "-" or attribute(m)
    )  # a 5-km run
    name = UNITS[symbol][0 if (is_one(amount) and not scale) or describes else 1]
    if power:
        name = f"{POWERS[power]} {name}"
    if per:
        below = per[1:]
        below = below.rstrip("23^")
        single = UNITS[below][0] if below in UNITS and below not in PER else PER.get(below)
        if single is None:
            return None
        name += f" per {single}" + (f" {POWERS_AFTER[per[-1]]}" if per[-1] in POWERS_AFTER else "")
    return f"{number(amount)}{scale} {name}" + (stop_after(m) if m[0].endswith(".") else "")


def _part(m: re.Match[str]) -> str | None:
    """3/4 tsp: the fraction stays for its own rule."""
    symbol = m[3].lower() if m[3] in ("Tsp", "C") else m[3]
    one, many = ("cup", "cups") if symbol == "c" else UNITS[symbol]
    return f"{m[1] or ''}{m[2]} {many if m[1] and '-' not in m[0] else one}" + (
        stop_after(m) if m[0][-1] == "." else ""
    )


def _after_power(m: re.Match[str]) -> str | None:
    if m[2] not in UNITS or (m[3] and m[3] not in PER and m[3] not in UNITS):
        return None
    return f"{m[1]} {UNITS[m[2]][1]}" + (f" per {PER.get(m[3]) or UNITS[m[3]][0]}" if m[3] else "")


def _measure(m: re.Match[str]) -> str:
    name = {"c": "cup", "fl": "fluid ounce", "sq": "square foot"}[m[2][:2].lower().rstrip(". ")]
    many = "square feet" if name == "square foot" else name + "s"
    return f"{number(m[1])} {name if is_one(m[1]) else many}" + (stop_after(m) if m[0][-1] == "." else "")


def _degrees(m: re.Match[str]) -> str:
    one = (is_one(m[1]) and not m[2]) or attribute(m)
    return (
        f"{number(m[1])} degree{'' if one else 's'}"
        + (f" {DEGREES[m[2]]}" if m[2] else "")
        + (" " if m.string[m.end() : m.end() + 1].isalpha() else "")
    )


def _square(m: re.Match[str]) -> str:
    """km² with no number before it."""
    one = re.search(r"\b(?:[Pp]er|[Aa]n?|[Ee]very|[Ee]ach|[Oo]ne) $", m.string[max(m.start() - 6, 0) : m.start()])
    return f"{POWERS[m[2]]} {UNITS[m[1]][0 if one else 1]}"


def _place(m: re.Match[str]) -> str | None:
    """Degrees, minutes and seconds of an angle; north, south, east and west."""
    if not (m[2] or m[4]):
        return None
    parts = ((m[1], "degree"), (m[2], "minute"), (m[3], "second"))
    said = " ".join(f"{number(n)} {name}{'' if is_one(n) else 's'}" for n, name in parts if n)
    return said + (f" {POINTS[m[4]]}" if m[4] else "")


POINTS = {"N": "north", "S": "south", "E": "east", "W": "west"}


def _stones(m: re.Match[str]) -> str | None:
    if not m[2] and re.search(r"^[A-Z][a-z]|^ [A-Z]", m.string[m.end() : m.end() + 2]):
        return None  # 12 St Johns
    said = f"{number(m[1])} stone" + (f" {number(m[2])}" if m[2] else "")
    return said + (f" pound{'' if is_one(m[2]) else 's'}" if m[2] and m[3] else "")


def _spoon(m: re.Match[str]) -> str:
    amount = m[1]
    name = "tablespoon" if m[2] == "T" else "teaspoon"
    return f"{amount} {name}{'' if amount.strip() == '1' or re.fullmatch(r'[0-9]+/[0-9]+', amount) else 's'}"


FOODS = "salt|sugar|vanilla|baking|cinnamon|pepper|oil|olive|butter|flour|soda|yeast|cumin|paprika|nutmeg|ginger|garlic|honey|lemon|lime|soy|vinegar|cocoa|cornstarch|water|milk|cream|mustard|thyme|oregano|basil|turmeric|brown|ground|fresh|chopped|dried|kosher|sea|cold|melted|unsalted"


def _feet(m: re.Match[str]) -> str:
    feet = f"{number(m[1])} {'foot' if is_one(m[1]) else 'feet'}"
    return f"{feet} {number(m[2])} inch{'' if is_one(m[2]) else 'es'}"


def _inches(m: re.Match[str]) -> str | None:
    if m.string.rfind('"', max(0, m.start() - 60), m.start()) >= 0:
        return None  # the end of a quotation
    return f"{number(m[1])} inch" + ("" if is_one(m[1]) or attribute(m) else "es")


RULES: tuple[Rule, ...] = (
    rule("percent", rf"({SIGN}{ALONE}{NUMBER}) ?%", lambda m: f"{number(m[1])} percent", ("It grew 2.5%.", "It grew two point five percent."), ("-3 %", "minus three percent")),
    rule("place on a map", rf"{ALONE}(\d{{1,3}}(?:\.\d{{1,8}})?)° ?(?:(\d{{1,2}}(?:\.\d{{1,6}})?)' ?(?:(\d{{1,2}}(?:\.\d{{1,6}})?)(?:\"|'') ?)?)?([NSEW]\b)?", _place,
         ("at 45°N, 122°W", "at forty five degrees north, one hundred twenty two degrees west"), ("40°42'51\"N", "forty degrees forty two minutes fifty one seconds north")),
    rule("two temperatures", rf"{ALONE}(-?\d{{1,3}}) ?([CF])(?= ?(?:/|or|\() ?-?\d{{1,3}} ?(?!\2)[CF]\b)|(?<=\dC / |\dF / )(-?\d{{1,3}}) ?([CF])\b|(?<=\d[CF]/)(-?\d{{1,3}}) ?([CF])\b|(?<=\d[CF] \()(-?\d{{1,3}}) ?([CF])\b",
         lambda m: f"{m[1] or m[3] or m[5] or m[7]}°{m[2] or m[4] or m[6] or m[8]}", ("30C / 86F", "thirty degrees Celsius, eighty six degrees Fahrenheit")),
    rule("between temperatures", r"(?<=\d°[CF])/(?=\w)|(?<=\d[CF])/(?=gas\b)", ", ", ("175°C/gas mark 4", "one hundred seventy five degrees Celsius, gas mark four")),
    rule("temperature", rf"({SIGN}{ALONE}{NUMBER}) ?°(?: ?([CFK])\b)?", _degrees,
         ("5°C", "five degrees Celsius"), ("It is -10 °F.", "It is minus ten degrees Fahrenheit."), ("turn 90°", "turn ninety degrees"), ("20° at noon", "twenty degrees at noon"), ("a 90° turn", "a ninety degree turn")),
    rule("feet and inches", r"(?<![\w.])(\d{1,2})' ?(\d{1,2})(?:\"|'')", _feet, ("She is 5'9\".", "She is five feet nine inches.")),
    rule("feet and inches in letters", rf"{ALONE}(\d{{1,2}}) ?ft\.? (\d{{1,2}}) ?in\b\.?", lambda m: _feet(m) + (stop_after(m) if m[0][-1] == "." else ""), ("5 ft 7 in tall", "five feet seven inches tall")),
    rule("feet by feet", r"(?<![\w.'])(\d{1,3})' ?[x×] ?(\d{1,3})'(?!\w)", r"\1 feet by \2 feet", ("12' x 10'.", "twelve feet by ten feet.")),
    rule("feet and inches, short", r"(?<![\w.'])([3-8])'(\d|1[01])(?![\w'\"])", lambda m: f"{number(m[1])} feet {number(m[2])}", ("I am 5'3.", "I am five feet three.")),
    rule("feet", rf"{ALONE}({NUMBER})'(?= (?:tall|deep|wide|long|high|thick|by)\b)", lambda m: f"{number(m[1])} {'foot' if is_one(m[1]) else 'feet'}", ("The pool is 6' deep.", "The pool is six feet deep.")),
    rule("inches in letters", rf"{ALONE}({NUMBER}) in(?= (?:tall|deep|wide|long|high|thick|by|x|×)\b|\))", lambda m: f"{number(m[1])} inch{'' if is_one(m[1]) else 'es'}", ("2 in wide", "two inches wide")),
    rule("dimensions", r"(?<=\d)(?<!\b0)( ?(?:mm|cm|m|km|in|ft|yd|px)\.?|'|\")? ?[x×] ?(?=\d)(?!10 ?\^)(?!\d[\d.,]{0,20} ?=)", r"\1 by ",
         ("a 3x4 grid", "a three by four grid"), ("3 m x 4 m", "three meters by four meters"), ("50 x 100 ft", "fifty by one hundred feet")),
    rule("oven", r"(?:(?<=\b(?:at|to|of|or|is) )|(?<=\b(?:was) )|(?<=\b(?:above|below|about|reach) )|(?<=@ ))(-?\d{2,3}) ?([CF])\b(?!-)|(?<![\w.-])(-?\d{2})([CF])(?= (?:today|outside|tomorrow|tonight|weather|heat)\b)", lambda m: f"{number(m[1] or m[3])} degrees {DEGREES[m[2] or m[4]]}",
         ("Bake at 200C.", "Bake at two hundred degrees Celsius.")),
    rule("measure of two words", rf"{ALONE}(?<!/)({NUMBER}) ?(c\.(?= [a-z])|fl\.? ?oz\b\.?|sq\.? ft\b\.?)", _measure, ("8 fl. oz. cream", "eight fluid ounces cream"), ("5 sq. ft. of", "five square feet of"), ("2 c. sugar", "two cups sugar")),
    rule("part of a unit", r"(?<![\w.,/])(\d{1,3} (?=\d))?(\d{1,3}/\d{1,3})[ -]?(" + "|".join(sorted((re.escape(u) for u in UNITS if u not in ("in", "K")), key=len, reverse=True)) + r"|Tsp|[cC](?=\. [a-z]))\b(?:\.(?![\w]))?", _part,
         ("3/4 tsp salt", "three quarters teaspoon salt"), ("1 1/2 lb beef", "one and a half pounds beef"), ("1/4 c. oil", "one quarter cup oil")),
    rule("part of an inch", r"(?<![\w.,/])(\d{1,3}[ -](?=\d))?(\d{1,2}/\d{1,3})\"(?=[\s.,;!?)x×]|$)", lambda m: f"{m[1].strip('- ') + ' ' if m[1] else ''}{m[2]} inch{'' if not m[1] or attribute(m) else 'es'}", ("a 3/4\" bolt", "a three quarters inch bolt"), ("2 1/2\" long", "two and a half inches long")),
    rule("stones", r"(?<![\w.])(\d{1,2}) ?st\b\.? ?(?:(\d{1,2})(?: ?(lbs?)\b)?)(?![\w:/-])|(?<=\bweighs )(\d{1,2}) ?st\b", lambda m: _stones(m) if m[1] else f"{m[4]} stone", ("12 st 4 lb", "twelve stone four pounds")),
    rule("spoons", rf"(?<![\w.,/-])((?:\d{{1,2}} )?\d{{1,2}}/\d{{1,2}}|\d{{1,2}}) ?([tT])\b\.?(?= (?:{FOODS})\b)", _spoon, ("1 t salt", "one teaspoon salt"), ("2 T olive oil", "two tablespoons olive oil")),
    rule("inches with a full stop", rf"{ALONE}({NUMBER}) ?in\.(?!\w)", lambda m: f"{number(m[1])} inch{'' if is_one(m[1]) else 'es'}{stop_after(m)}", ("0.5 in. more", "zero point five inches more")),
    rule("inches", rf"(?<![\w.\"])({NUMBER})\"(?=[\s.,;!?)]|$)", _inches, ("a 27\" screen", "a twenty seven inch screen"), ("27\" wide", "twenty seven inches wide")),
    rule("unit after a power", r"(?<=\^)(-?\d{1,3}) ([A-Za-zΩ]{1,4})(?:/([a-z]{1,3}))?(?![\w/])", _after_power, ("3 × 10^8 m/s", "three times ten to the eight meters per second")),
    rule("unit", rf"(?<![A-Z]-)(?<![/^])(?<!\^-)({SIGN}{ALONE}{NUMBER}){WORDS}([ -]?)((?:sq|cu) (?:ft|mi|km|m|yd|in)|[A-Za-zμΩ]{{1,5}})(?:\^?([23]))?(/(?:[a-z]{{1,7}}|[dm]?L)(?:\^?[23])?)?(?![\w^/])(?:(?<=[a-z])\.(?= [a-z(]|[,;:)]))?", _unit,
         ("We ran 10km.", "We ran ten kilometers."), ("1 kg", "one kilogram"), ("80 km/h", "eighty kilometers per hour"),
         ("50 m²", "fifty square meters"), ("a 5-km run", "a five kilometer run"), ("8 GB", "eight gigabytes"), ("7 sq mi", "seven square miles"), ("2 lb. potatoes", "two pounds potatoes"), ("60m viewers", "sixty million viewers"),
         ("250 ml", "two hundred fifty milliliters"), ("9.8 m/s²", "nine point eight meters per second squared")),
    rule("square of a unit", r"(?<![\w.^])(?=[kcm]m|\w{1,2}\^)(km|cm|mm|m|mi|ft|yd)\^?([23])(?!\w)", _square, ("in km²", "in square kilometers"), ("per cm2", "per square centimeter")),
    rule("rate of no number", r"(?<![\w./])(km|mi|ft|m|kg|mg|MB|GB|Mb|kB)/(h|hr|s|sec|min|kg|L|dL|day|person)\b(?!/)", lambda m: f"{UNITS[m[1]][1]} per {PER.get(m[2]) or UNITS[m[2]][0]}", ("in km/h", "in kilometers per hour")),
    rule("rate", r"(?<=[A-Za-z0-9])/(second|minute|hour|day|week|month|year|night|person|word|page|unit|hr|min|sec|mo|yr|oz|lb|kg|gal|km|mi|GB|TB|kWh|MWh|ml|mg)\b|(?<=[a-z]{3})/(s)\b", lambda m: f" per {PER.get(m[1] or m[2]) or UNITS[m[1]][0]}",
         ("$5/month", "five dollars per month"), ("€3/kg", "three euros per kilogram"), ("200 calls/s", "two hundred calls per second")),
)  # fmt: skip
