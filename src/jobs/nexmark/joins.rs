//! Queries that join persons, auctions and bids with each other, or bids with a table.
//!
//! Owns: q3, q4, q8, q9, q13, q20, q23. Invariant: what a query does not read of an event is left behind before its join
//! wherever that makes state smaller; q20 and q23 read nearly everything and keep events as they are.

use std::cmp::Reverse;
use std::time::Duration;

use crate::nexmark::schema::{
    Auction, AuctionSpan, BidPrice, CategoryBid, CategoryPrice, EnrichedBid, EnrichedBidArgs,
    Event, ExpandedBid, ExpandedBidArgs, LocalItem, LocalItemArgs, LocalPerson, LocalPersonArgs,
    NamedPerson, NamedPersonArgs, NewSeller, NewSellerArgs, Offer, OfferArgs, SellerBid,
    SellerBidArgs, SellerItem, WinningBid, WinningBidArgs,
};
use crate::prelude::*;

type Events = DataStream<Event<'static>>;

/// Category that q3 and q20 look at.
const CATEGORY: u64 = 10;

fn auction_id(event: Row<'_, Event<'static>>) -> u64 {
    event.body_as_auction().map_or(0, |auction| auction.id())
}

fn auction_of_bid(event: Row<'_, Event<'static>>) -> u64 {
    event.body_as_bid().map_or(0, |bid| bid.auction())
}

fn seller(event: Row<'_, Event<'static>>) -> u64 {
    event
        .body_as_auction()
        .map_or(0, |auction| auction.seller())
}

fn person_id(event: Row<'_, Event<'static>>) -> u64 {
    event.body_as_person().map_or(0, |person| person.id())
}

fn auctions(events: &Events) -> Events {
    let is_auction = |event: Row<'_, Event<'static>>| event.body_as_auction().is_some();
    events.clone().filter(is_auction).name("auctions")
}

fn persons(events: &Events) -> Events {
    let is_person = |event: Row<'_, Event<'static>>| event.body_as_person().is_some();
    events.clone().filter(is_person).name("persons")
}

fn bids(events: &Events) -> Events {
    let is_bid = |event: Row<'_, Event<'static>>| event.body_as_bid().is_some();
    events.clone().filter(is_bid).name("bids")
}

fn auctions_of_category(events: &Events) -> Events {
    let of_category = |event: Row<'_, Event<'static>>| {
        let auction = event.body_as_auction();
        auction.is_some_and(|auction| auction.category() == CATEGORY)
    };
    events
        .clone()
        .filter(of_category)
        .name("auctions of category 10")
}

/// What a join by seller needs of the auctions for which `of_interest` holds.
fn seller_items(
    events: &Events,
    of_interest: impl Fn(Auction<'_>) -> bool + Clone + Send + Sync + 'static,
) -> DataStream<SellerItem> {
    events
        .clone()
        .flat_map(move |event, out: &mut Collector<'_, SellerItem>| {
            if let Some(auction) = event.body_as_auction()
                && of_interest(auction)
            {
                out.collect(SellerItem::new(auction.id(), auction.seller()));
            }
        })
        .name("sellers of auctions")
}

/// q3: auctions of category 10 whose sellers live in Oregon, Idaho or California.
pub(super) fn local_items(events: &Events) -> DataStream<LocalItem<'static>> {
    let locals = events
        .clone()
        .flat_map(|event, out: &mut Collector<'_, LocalPerson<'static>>| {
            let Some(person) = event.body_as_person() else {
                return;
            };
            if !matches!(person.state(), "OR" | "ID" | "CA") {
                return;
            }
            out.collect_table(|builder| {
                let args = LocalPersonArgs {
                    id: person.id(),
                    name: Some(builder.create_string(person.name())),
                    city: Some(builder.create_string(person.city())),
                    state: Some(builder.create_string(person.state())),
                };
                LocalPerson::create(builder, &args)
            });
        })
        .name("local persons");
    seller_items(events, |auction| auction.category() == CATEGORY)
        .join(locals)
        .where_key(|item| item.seller())
        .equal_to(|person| person.id())
        .apply(
            |item, person, out: &mut Collector<'_, LocalItem<'static>>| {
                out.collect_table(|builder| {
                    let args = LocalItemArgs {
                        name: Some(builder.create_string(person.name())),
                        city: Some(builder.create_string(person.city())),
                        state: Some(builder.create_string(person.state())),
                        id: item.id(),
                    };
                    LocalItem::create(builder, &args)
                });
            },
        )
        .name("local items")
}

/// The bid came while the auction was open.
fn in_time(bid_date_time: i64, auction_date_time: i64, expires: i64) -> bool {
    (auction_date_time..=expires).contains(&bid_date_time)
}

/// q8: persons who opened an auction in the ten seconds in which they came.
pub(super) fn new_sellers(events: &Events) -> DataStream<NewSeller<'static>> {
    let persons = events
        .clone()
        .flat_map(|event, out: &mut Collector<'_, NamedPerson<'static>>| {
            if let Some(person) = event.body_as_person() {
                out.collect_table(|builder| {
                    let args = NamedPersonArgs {
                        id: person.id(),
                        name: Some(builder.create_string(person.name())),
                    };
                    NamedPerson::create(builder, &args)
                });
            }
        })
        .name("persons");
    persons
        .co_group(seller_items(events, |_| true))
        .where_key(|person| person.id())
        .equal_to(|item| item.seller())
        .window(TumblingEventTimeWindows::of(Duration::from_secs(10)))
        .apply(
            |_id: &u64, window, persons, items, out: &mut Collector<'_, NewSeller<'static>>| {
                if items.is_empty() {
                    return;
                }
                // A person comes once, so there is one of an id.
                for person in persons.iter() {
                    out.collect_table(|builder| {
                        let args = NewSellerArgs {
                            id: person.id(),
                            name: Some(builder.create_string(person.name())),
                            starttime: window.start(),
                        };
                        NewSeller::create(builder, &args)
                    });
                }
            },
        )
        .name("new sellers")
}

/// Rows of the table that q13 looks auctions up in.
const SIDE_INPUT_ROWS: u64 = 10_000;

/// q13: bids with what a table says of their auction. The table is made, or read from a file of lines `key,value`.
pub(super) fn enriched_bids(
    bids: DataStream<Event<'static>>,
    side_input: Option<&std::path::Path>,
) -> DataStream<EnrichedBid<'static>> {
    let table = side_input.map_or_else(
        || LookupTable::of(|| (0..SIDE_INPUT_ROWS).map(|key| (key, key.to_string()))),
        LookupTable::<u64, String>::csv,
    );
    bids.lookup_join(
        table,
        |event| {
            event
                .body_as_bid()
                .map_or(u64::MAX, |bid| bid.auction() % SIDE_INPUT_ROWS)
        },
        |event, value, out: &mut Collector<'_, EnrichedBid<'static>>| {
            let Some(bid) = event.body_as_bid() else {
                return;
            };
            out.collect_table(|builder| {
                let args = EnrichedBidArgs {
                    auction: bid.auction(),
                    bidder: bid.bidder(),
                    price: bid.price(),
                    date_time: bid.date_time(),
                    value: Some(builder.create_string(value)),
                };
                EnrichedBid::create(builder, &args)
            });
        },
    )
    .name("side input")
}

/// The highest price of an auction's bids.
#[derive(Debug, Clone, Copy)]
struct HighestPrice;

impl GroupAggregateFunction<CategoryBid> for HighestPrice {
    type Accumulator = u64;
    type Output = u64;

    fn create_accumulator(&self) -> u64 {
        0
    }
    fn accumulate(&self, bid: Row<'_, CategoryBid>, highest: &mut u64) {
        *highest = bid.price().max(*highest);
    }
    fn result(&self, highest: &u64) -> u64 {
        *highest
    }
}

/// The average price, rounded towards zero. Prices may be taken back.
#[derive(Debug, Clone, Copy)]
struct AveragePrice;

impl GroupAggregateFunction<CategoryBid> for AveragePrice {
    type Accumulator = (u64, u64);
    type Output = u64;

    fn create_accumulator(&self) -> (u64, u64) {
        (0, 0)
    }
    fn accumulate(&self, bid: Row<'_, CategoryBid>, (sum, count): &mut (u64, u64)) {
        *sum = sum.wrapping_add(bid.price());
        *count += 1;
    }
    fn retract(
        &self,
        bid: Row<'_, CategoryBid>,
        (sum, count): &mut (u64, u64),
    ) -> Result<(), CannotRetract> {
        *sum = sum.wrapping_sub(bid.price());
        *count = count.saturating_sub(1);
        Ok(())
    }
    fn result(&self, (sum, count): &(u64, u64)) -> u64 {
        sum / (*count).max(1)
    }
}

/// q4: per category, the average of the highest bids of its auctions.
pub(super) fn category_prices(events: &Events) -> DataStream<CategoryPrice> {
    let prices = events
        .clone()
        .flat_map(|event, out: &mut Collector<'_, BidPrice>| {
            if let Some(bid) = event.body_as_bid() {
                out.collect(BidPrice::new(bid.auction(), bid.price(), bid.date_time()));
            }
        })
        .name("prices");
    let spans = events
        .clone()
        .flat_map(|event, out: &mut Collector<'_, AuctionSpan>| {
            if let Some(auction) = event.body_as_auction() {
                let (date_time, expires) = (auction.date_time(), auction.expires());
                out.collect(AuctionSpan::new(
                    auction.id(),
                    auction.category(),
                    date_time,
                    expires,
                ));
            }
        })
        .name("spans of auctions");
    prices
        .join(spans)
        .where_key(|bid| bid.auction())
        .equal_to(|auction| auction.id())
        .apply(|bid, auction, out: &mut Collector<'_, CategoryBid>| {
            if in_time(bid.date_time(), auction.date_time(), auction.expires()) {
                out.collect(CategoryBid::new(
                    auction.id(),
                    auction.category(),
                    bid.price(),
                ));
            }
        })
        .name("bids and categories")
        .key_by(|bid| (bid.auction(), bid.category()))
        .group_aggregate(
            HighestPrice,
            |(auction, category): &(u64, u64), price, out: &mut Collector<'_, CategoryBid>| {
                out.collect(CategoryBid::new(*auction, *category, *price));
            },
        )
        .name("highest bids")
        .key_by(|highest| highest.category())
        .group_aggregate(
            AveragePrice,
            |category: &u64, average, out: &mut Collector<'_, CategoryPrice>| {
                out.collect(CategoryPrice::new(*category, *average));
            },
        )
        .name("average of a category")
}

/// q9: auctions and the bids that won them: of the highest price, and of those the first.
pub(super) fn winning_bids(events: &Events) -> DataStream<WinningBid<'static>> {
    let offers = events
        .clone()
        .flat_map(|event, out: &mut Collector<'_, Offer<'static>>| {
            let Some(bid) = event.body_as_bid() else {
                return;
            };
            out.collect_table(|builder| {
                let args = OfferArgs {
                    auction: bid.auction(),
                    bidder: bid.bidder(),
                    price: bid.price(),
                    date_time: bid.date_time(),
                    extra: Some(builder.create_string(bid.extra())),
                };
                Offer::create(builder, &args)
            });
        })
        .name("offers");
    offers
        .join(auctions(events))
        .where_key(|bid| bid.auction())
        .equal_to(auction_id)
        .apply(
            |bid, auction, out: &mut Collector<'_, WinningBid<'static>>| {
                let Some(auction) = auction.body_as_auction() else {
                    return;
                };
                if !in_time(bid.date_time(), auction.date_time(), auction.expires()) {
                    return;
                }
                out.collect_table(|builder| {
                    let args = WinningBidArgs {
                        id: auction.id(),
                        item_name: Some(builder.create_string(auction.item_name())),
                        description: Some(builder.create_string(auction.description())),
                        initial_bid: auction.initial_bid(),
                        reserve: auction.reserve(),
                        date_time: auction.date_time(),
                        expires: auction.expires(),
                        seller: auction.seller(),
                        category: auction.category(),
                        extra: Some(builder.create_string(auction.extra())),
                        auction: bid.auction(),
                        bidder: bid.bidder(),
                        price: bid.price(),
                        bid_date_time: bid.date_time(),
                        bid_extra: Some(builder.create_string(bid.extra())),
                    };
                    WinningBid::create(builder, &args)
                });
            },
        )
        .name("bids of auctions")
        .key_by(|bid| bid.id())
        .top_n(1, |bid| (Reverse(bid.price()), bid.bid_date_time()))
        .name("winning bids")
}

/// q20: bids and their auctions, of category 10.
pub(super) fn expanded_bids(events: &Events) -> DataStream<ExpandedBid<'static>> {
    bids(events)
        .join(auctions_of_category(events))
        .where_key(auction_of_bid)
        .equal_to(auction_id)
        .apply(
            |bid, auction, out: &mut Collector<'_, ExpandedBid<'static>>| {
                let (Some(bid), Some(auction)) = (bid.body_as_bid(), auction.body_as_auction())
                else {
                    return;
                };
                out.collect_table(|builder| {
                    let args = ExpandedBidArgs {
                        auction: bid.auction(),
                        bidder: bid.bidder(),
                        price: bid.price(),
                        channel: Some(builder.create_string(bid.channel())),
                        url: Some(builder.create_string(bid.url())),
                        bid_date_time: bid.date_time(),
                        bid_extra: Some(builder.create_string(bid.extra())),
                        item_name: Some(builder.create_string(auction.item_name())),
                        description: Some(builder.create_string(auction.description())),
                        initial_bid: auction.initial_bid(),
                        reserve: auction.reserve(),
                        auction_date_time: auction.date_time(),
                        expires: auction.expires(),
                        seller: auction.seller(),
                        category: auction.category(),
                        auction_extra: Some(builder.create_string(auction.extra())),
                    };
                    ExpandedBid::create(builder, &args)
                });
            },
        )
        .name("bids and auctions")
}

/// q23: bids, their bidders, and the auctions that these opened. Persons meet their auctions first: that is the smaller join.
pub(super) fn seller_bids(events: &Events) -> DataStream<SellerBid<'static>> {
    let sellers = persons(events)
        .join(auctions(events))
        .where_key(person_id)
        .equal_to(seller)
        .apply(
            |person, auction, out: &mut Collector<'_, SellerBid<'static>>| {
                let (Some(person), Some(auction)) =
                    (person.body_as_person(), auction.body_as_auction())
                else {
                    return;
                };
                out.collect_table(|builder| {
                    // The bid's columns are filled in by the next join.
                    let none = builder.create_string("");
                    let args = SellerBidArgs {
                        bidder: 0,
                        price: 0,
                        channel: Some(none),
                        url: Some(none),
                        bid_extra: Some(none),
                        person_id: person.id(),
                        name: Some(builder.create_string(person.name())),
                        email_address: Some(builder.create_string(person.email_address())),
                        credit_card: Some(builder.create_string(person.credit_card())),
                        city: Some(builder.create_string(person.city())),
                        state: Some(builder.create_string(person.state())),
                        person_extra: Some(builder.create_string(person.extra())),
                        item_name: Some(builder.create_string(auction.item_name())),
                        description: Some(builder.create_string(auction.description())),
                        initial_bid: auction.initial_bid(),
                        reserve: auction.reserve(),
                        auction_date_time: auction.date_time(),
                        expires: auction.expires(),
                        seller: auction.seller(),
                        category: auction.category(),
                        auction_extra: Some(builder.create_string(auction.extra())),
                    };
                    SellerBid::create(builder, &args)
                });
            },
        )
        .name("sellers and auctions");
    bids(events)
        .join(sellers)
        .where_key(|bid| bid.body_as_bid().map_or(0, |bid| bid.bidder()))
        .equal_to(|seller| seller.person_id())
        .apply(|bid, seller, out: &mut Collector<'_, SellerBid<'static>>| {
            let Some(bid) = bid.body_as_bid() else {
                return;
            };
            out.collect_table(|builder| {
                let args = SellerBidArgs {
                    bidder: bid.bidder(),
                    price: bid.price(),
                    channel: Some(builder.create_string(bid.channel())),
                    url: Some(builder.create_string(bid.url())),
                    bid_extra: Some(builder.create_string(bid.extra())),
                    person_id: seller.person_id(),
                    name: Some(builder.create_string(seller.name())),
                    email_address: Some(builder.create_string(seller.email_address())),
                    credit_card: Some(builder.create_string(seller.credit_card())),
                    city: Some(builder.create_string(seller.city())),
                    state: Some(builder.create_string(seller.state())),
                    person_extra: Some(builder.create_string(seller.person_extra())),
                    item_name: Some(builder.create_string(seller.item_name())),
                    description: Some(builder.create_string(seller.description())),
                    initial_bid: seller.initial_bid(),
                    reserve: seller.reserve(),
                    auction_date_time: seller.auction_date_time(),
                    expires: seller.expires(),
                    seller: seller.seller(),
                    category: seller.category(),
                    auction_extra: Some(builder.create_string(seller.auction_extra())),
                };
                SellerBid::create(builder, &args)
            });
        })
        .name("bids of sellers")
}
