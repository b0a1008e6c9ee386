#!/usr/bin/env python3
"""What Nexmark's queries must answer, worked out by DuckDB over a file of events.

    nexmark_duckdb.py EVENTS.jsonl DIRECTORY [QUERY ..]

EVENTS.jsonl is what `ringflow generate nexmark --file` writes. DIRECTORY receives one file per query, `q0.jsonl` to
`q23.jsonl` without q6, of one JSON object per line in no particular order, members in the order of the columns and
spelled as ringflow prints them (without `op`). Queries named on the command line are the only ones answered.

Nothing here comes from ringflow but the events: the queries are SQL over the whole stream at once. Every event counts
(there is no lateness), and windows still open at the end are answered like the others.

Rules where the wording of a query leaves room:
- Windows are half open. q7 therefore compares a bid with the highest price of its own ten seconds.
- Bids of a session are at most the gap of 10 s apart, 10 s included: touching windows merge, as in Flink.
- Averages are whole: sum / count, rounded towards zero, as AVG of BIGINT in Flink. Days, hours and minutes are UTC.
- q21 drops rows without an identifier. q13's side input has the rows (i, 'i') for i in 0..10000.

Three files hold what an answer is checked against instead of the answer, which is not one alone:
- q9 and q18: every row that may stand for its key; the answer has one of each key.
- q19: every bid whose RANK() is up to 10, which numbers equal prices alike; the answer's ROW_NUMBER() is free there.
- q12 runs in processing time: how many bids each bidder made in all.
"""

import os
import sys
import time

try:
    import duckdb
except ImportError:
    sys.exit("nexmark_duckdb.py: no module duckdb; run it with the Python that scripts/duckdb.sh prints")

EVENT_COLUMNS = {
    "event_type": "VARCHAR",
    **dict.fromkeys(["id", "auction", "bidder", "price", "initialBid", "reserve", "seller", "category"], "BIGINT"),
    **dict.fromkeys(["dateTime", "expires"], "BIGINT"),
    **dict.fromkeys(["name", "emailAddress", "creditCard", "city", "state", "itemName", "description"], "VARCHAR"),
    **dict.fromkeys(["channel", "url", "extra"], "VARCHAR"),
}

TABLES = {
    "person": 'id, name, "emailAddress", "creditCard", city, state, "dateTime", extra',
    "auction": 'id, "itemName", description, "initialBid", reserve, "dateTime", expires, seller, category, extra',
    "bid": 'auction, bidder, price, channel, url, "dateTime", extra',
}

BID = TABLES["bid"]
TIMESTAMP = 'make_timestamp("dateTime" * 1000)'
DAY = f"strftime({TIMESTAMP}, '%Y-%m-%d')"
MINUTE = f"strftime({TIMESTAMP}, '%H:%M')"
TEN_SECONDS = '"dateTime" - "dateTime" % 10000'

# Price classes of q15, q16 and q17.
CLASSES = {
    "total": "true",
    "rank1": "price < 10000",
    "rank2": "price >= 10000 AND price < 1000000",
    "rank3": "price >= 1000000",
}


def counts(what, suffix):
    return ", ".join(f"count({what}) FILTER (WHERE {test}) AS {name}_{suffix}" for name, test in CLASSES.items())


BID_COUNTS = counts("*", "bids")
ALL_COUNTS = f'{BID_COUNTS}, {counts("DISTINCT bidder", "bidders")}, {counts("DISTINCT auction", "auctions")}'

CHANNEL_ID = """CASE lower(channel) WHEN 'apple' THEN '0' WHEN 'google' THEN '1' WHEN 'facebook' THEN '2'
    WHEN 'baidu' THEN '3' ELSE CASE WHEN regexp_matches(url, '(&|^)channel_id=([^&]*)')
    THEN regexp_extract(url, '(&|^)channel_id=([^&]*)', 2) END END"""

# Every query from the second on that joins bids to the auction they were made for while it was open.
OPEN = 'bid AS b JOIN auction AS a ON b.auction = a.id AND b."dateTime" BETWEEN a."dateTime" AND a.expires'

QUERIES = {
    "q0": f"SELECT {BID} FROM bid",
    "q1": 'SELECT auction, bidder, (price * 0.908)::DECIMAL(23, 3) AS price, "dateTime", extra FROM bid',
    "q2": "SELECT auction, price FROM bid WHERE auction % 123 = 0",
    "q3": """SELECT p.name, p.city, p.state, a.id FROM auction AS a JOIN person AS p ON a.seller = p.id
        WHERE a.category = 10 AND p.state IN ('OR', 'ID', 'CA')""",
    "q4": f"""SELECT category, (sum(final) // count(*))::BIGINT AS final FROM
        (SELECT a.id, a.category, max(b.price) AS final FROM {OPEN} GROUP BY a.id, a.category) GROUP BY category""",
    "q5": """WITH counts AS (
            SELECT auction, start, count(*) AS num FROM
                (SELECT auction, unnest(range("dateTime" - "dateTime" % 2000 - 8000, "dateTime" + 1, 2000)) AS start
                FROM bid) GROUP BY auction, start)
        SELECT auction, num, start AS "windowStart", start + 10000 AS "windowEnd"
        FROM counts QUALIFY num = max(num) OVER (PARTITION BY start)""",
    "q7": f"""SELECT auction, bidder, price, "dateTime", extra
        FROM bid QUALIFY price = max(price) OVER (PARTITION BY {TEN_SECONDS})""",
    "q8": f"""SELECT p.id, p.name, p.start AS starttime FROM
            (SELECT DISTINCT id, name, {TEN_SECONDS} AS start FROM person) AS p
        JOIN (SELECT DISTINCT seller, {TEN_SECONDS} AS start FROM auction) AS a
        ON p.id = a.seller AND p.start = a.start""",
    "q9": f"""SELECT a.id, a."itemName", a.description, a."initialBid", a.reserve, a."dateTime", a.expires, a.seller,
            a.category, a.extra, b.auction, b.bidder, b.price, b."dateTime" AS "bid_dateTime", b.extra AS bid_extra
        FROM {OPEN} QUALIFY rank() OVER (PARTITION BY a.id ORDER BY b.price DESC, b."dateTime") = 1""",
    "q10": f'SELECT auction, bidder, price, "dateTime", extra, {DAY} AS dt, {MINUTE} AS hm FROM bid',
    "q11": """SELECT bidder, count(*) AS bid_count, min("dateTime") AS starttime, max("dateTime") + 10000 AS endtime
        FROM (SELECT bidder, "dateTime", sum(opens) OVER (PARTITION BY bidder ORDER BY "dateTime") AS session
            FROM (SELECT bidder, "dateTime", CASE WHEN "dateTime" - lag("dateTime")
                OVER (PARTITION BY bidder ORDER BY "dateTime") <= 10000 THEN 0 ELSE 1 END AS opens FROM bid))
        GROUP BY bidder, session""",
    "q12": "SELECT bidder, count(*) AS bid_count FROM bid GROUP BY bidder",
    "q13": """SELECT auction, bidder, price, "dateTime", value
        FROM bid JOIN (SELECT i AS key, i::VARCHAR AS value FROM range(10000) AS side(i)) ON auction % 10000 = key""",
    "q14": f"""SELECT auction, bidder, (price * 0.908)::DECIMAL(23, 3) AS price,
            CASE WHEN hour({TIMESTAMP}) BETWEEN 8 AND 18 THEN 'dayTime'
                WHEN hour({TIMESTAMP}) <= 6 OR hour({TIMESTAMP}) >= 20 THEN 'nightTime' ELSE 'otherTime' END
                AS "bidTimeType",
            "dateTime", extra, length(extra) - length(replace(extra, 'c', '')) AS c_counts
        FROM bid WHERE price * 0.908 > 1000000 AND price * 0.908 < 50000000""",
    "q15": f"SELECT {DAY} AS day, {ALL_COUNTS} FROM bid GROUP BY day",
    "q16": f"SELECT channel, {DAY} AS day, max({MINUTE}) AS minute, {ALL_COUNTS} FROM bid GROUP BY channel, day",
    "q17": f"""SELECT auction, {DAY} AS day, {BID_COUNTS}, min(price) AS min_price, max(price) AS max_price,
            (sum(price) // count(*))::BIGINT AS avg_price, sum(price)::BIGINT AS sum_price
        FROM bid GROUP BY auction, day""",
    "q18": f'SELECT {BID} FROM bid QUALIFY rank() OVER (PARTITION BY bidder, auction ORDER BY "dateTime" DESC) = 1',
    "q19": f"""SELECT {BID}, rank() OVER (PARTITION BY auction ORDER BY price DESC) AS rank_number
        FROM bid QUALIFY rank_number <= 10""",
    "q20": """SELECT b.auction, b.bidder, b.price, b.channel, b.url, b."dateTime" AS "bid_dateTime",
            b.extra AS bid_extra, a."itemName", a.description, a."initialBid", a.reserve,
            a."dateTime" AS "auction_dateTime", a.expires, a.seller, a.category, a.extra AS auction_extra
        FROM bid AS b JOIN auction AS a ON b.auction = a.id WHERE a.category = 10""",
    "q21": f"""SELECT * FROM (SELECT auction, bidder, price, channel, {CHANNEL_ID} AS channel_id FROM bid)
        WHERE channel_id IS NOT NULL""",
    "q22": """SELECT auction, bidder, price, channel, split_part(url, '/', 4) AS dir1, split_part(url, '/', 5) AS dir2,
            split_part(url, '/', 6) AS dir3 FROM bid""",
    "q23": """SELECT b.bidder, b.price, b.channel, b.url, b.extra AS bid_extra, p.id AS person_id, p.name,
            p."emailAddress", p."creditCard", p.city, p.state, p.extra AS person_extra, a."itemName", a.description,
            a."initialBid", a.reserve, a."dateTime" AS "auction_dateTime", a.expires, a.seller, a.category,
            a.extra AS auction_extra
        FROM bid AS b JOIN person AS p ON p.id = b.bidder JOIN auction AS a ON a.seller = b.bidder""",
}


def load(connection, events):
    """Reads the events once, and parts them into the three tables."""
    columns = ", ".join(f"'{name}': '{kind}'" for name, kind in EVENT_COLUMNS.items())
    connection.execute(
        f"CREATE TABLE event AS FROM read_json(?, format = 'newline_delimited', columns = {{{columns}}})", [events]
    )
    for table, names in TABLES.items():
        connection.execute(f"CREATE TABLE {table} AS SELECT {names} FROM event WHERE event_type = '{table}'")
    parted = connection.execute("SELECT (SELECT count(*) FROM person) + (SELECT count(*) FROM auction)"
                                " + (SELECT count(*) FROM bid) - (SELECT count(*) FROM event)").fetchone()[0]
    if parted != 0:
        sys.exit(f"nexmark_duckdb.py: {-parted} lines of {events} are no person, auction or bid")
    connection.execute("DROP TABLE event")


def line_of(connection, query):
    """An expression for a row of `query` as one line of JSON: numbers as they are, texts quoted and escaped."""
    members = []
    for name, kind, *_ in connection.execute(f"DESCRIBE {query}").fetchall():
        if kind == "VARCHAR":
            value = f'to_json("{name}")::VARCHAR'
        elif kind == "BIGINT" or kind.startswith("DECIMAL"):
            value = f'"{name}"::VARCHAR'
        else:
            sys.exit(f"nexmark_duckdb.py: column {name} is {kind}, which has no agreed spelling")
        members.append(f"'\"{name}\":' || {value}")
    return "'{' || " + " || ',' || ".join(members) + " || '}'"


def main():
    if len(sys.argv) < 3:
        sys.exit("usage: nexmark_duckdb.py EVENTS.jsonl DIRECTORY [QUERY ..]")
    events, directory, *wanted = sys.argv[1:]
    unknown = [query for query in wanted if query not in QUERIES]
    if unknown:
        sys.exit(f"nexmark_duckdb.py: no such query: {', '.join(unknown)}; there are {', '.join(QUERIES)}")
    os.makedirs(directory, exist_ok=True)
    connection = duckdb.connect()
    connection.execute("SET preserve_insertion_order = false")
    connection.execute("SET TimeZone = 'UTC'")
    start = time.monotonic()
    load(connection, events)
    print(f"events read in {time.monotonic() - start:.2f} s", file=sys.stderr)
    for name in wanted or QUERIES:
        start = time.monotonic()
        query = QUERIES[name]
        file = os.path.join(directory, f"{name}.jsonl").replace("'", "''")
        # A CSV of one column without quotes is lines of text; no row holds the delimiter, it would be escaped.
        rows = connection.execute(
            f"COPY (SELECT {line_of(connection, query)} FROM ({query})) TO '{file}'"
            " (FORMAT csv, HEADER false, QUOTE '', ESCAPE '', DELIMITER e'\\x01')"
        ).fetchone()[0]
        print(f"{name}: {rows} rows in {time.monotonic() - start:.2f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
