//! What an HTTP tracker's reply reads as, it reads as again after we wrote it; a query that we
//! write for what a tracker read from a client reads the same.
#![no_main]

use btlive::wire::limits;
use btlive::wire::tracker::http::{Answer, Form, Query, ScrapeAnswer, scrape_query};
use btlive::wire::tracker::url::TrackerUrl;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(answer) = Answer::parse(bytes) {
        if let Answer::Reply(reply) = &answer {
            assert!(reply.peers.len() <= limits::PEERS_PER_REPLY_MAX);
        }
        assert_eq!(Answer::parse(&answer.encode(Form::Dicts)).as_ref(), Ok(&answer));
        assert!(Answer::parse(&answer.encode(Form::Compact)).is_ok());
    }
    if let Ok(answer) = ScrapeAnswer::parse(bytes) {
        assert_eq!(ScrapeAnswer::parse(&answer.encode()).as_ref(), Ok(&answer));
    }
    if let Ok(hashes) = scrape_query(bytes) {
        assert!(hashes.len() <= limits::SCRAPE_HASHES_MAX);
    }
    if let Ok(query) = Query::parse(bytes) {
        let url = TrackerUrl::parse("http://t.example/announce").expect("a good URL");
        let text = url.announce_url(&query.announce, None);
        let (_, again) = text.split_once('?').expect("a query");
        assert_eq!(Query::parse(again.as_bytes()).map(|q| q.announce), Ok(query.announce));
    }
});
