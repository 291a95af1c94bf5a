//! What is packed for a script is what its header says, argument by argument.

use ::redis::{Arg, Cmd};

use super::link::Peer;
use super::script::Script;
use super::wire::Target;
use super::{ReserveMode, ReserveRequest, ReturnedUnits, Settlement, ShardId};
use crate::order::{
    Currency, Epoch, Fingerprint, Name, OrderNo, Reservation, Rules, Sale, SaleNo, Salt, Sku, SkuNo, Switch, UserId,
};

fn no() -> OrderNo {
    OrderNo::from_bytes([5; 16])
}

fn peer() -> Peer {
    Peer { lineage: "lineage".to_owned(), hashes: Script::ALL.map(|script| format!("{script:?}")) }
}

fn ask(sku: u16, mode: ReserveMode) -> ReserveRequest {
    let reservation = Reservation {
        order_no: no(),
        fingerprint: Fingerprint::from_bytes([6; 16]),
        user: UserId::new(i64::MAX as u64).unwrap(),
        sku,
        quantity: 2,
        created_at: 7,
    };
    ReserveRequest { reservation, mode, attempt_id: 8 }
}

fn sale() -> Sale {
    let sku =
        Sku { no: SkuNo(1), id: Name::parse("a").unwrap(), unit_price: 1, currency: Currency::parse("CNY").unwrap() };
    Sale {
        no: SaleNo(1),
        id: Name::parse("s").unwrap(),
        rules: Rules::default(),
        salt: Salt::new([9; 32]),
        derivation: 1,
        switch: Switch::Running,
        skus: vec![sku],
        revision: 1,
        bypassed: false,
    }
}

/// The ARGV of a call, after `EVALSHA hash numkeys keys…`.
fn args(call: &Cmd) -> Vec<Vec<u8>> {
    let words: Vec<Vec<u8>> = call
        .args_iter()
        .map(|word| match word {
            Arg::Simple(word) => word.to_vec(),
            _ => panic!("a word of no kind we use"),
        })
        .collect();
    let keys: usize = String::from_utf8(words[2].clone()).unwrap().parse().unwrap();
    assert!(words[3..3 + keys].iter().all(|key| key.starts_with(b"{rg:3}:")), "one hash tag");
    words[3 + keys..].to_vec()
}

/// How many ARGV a header asks for: the numbered ones, then so many `times` of each group in braces.
fn expected(script: Script, times: &[usize]) -> usize {
    let text = script.text();
    let header = text.split_once("-- ARGV ").unwrap().1.split_once("-- RETURNS ").unwrap().0;
    let mut parts = header.split(" then ");
    let numbered = parts.next().unwrap().split_whitespace().filter(|word| word.parse::<u8>().is_ok()).count();
    let groups = parts.map(|group| group.matches(',').count() + 1);
    let groups: Vec<usize> = groups.collect();
    assert_eq!(groups.len(), times.len(), "{script:?}");
    numbered + groups.iter().zip(times).map(|(len, times)| len * times).sum::<usize>()
}

#[test]
fn each_script_gets_the_arguments_of_its_header() {
    let peer = peer();
    let shard = Target { peer: &peer, ledger_id: 1, shard: ShardId { sale: SaleNo(1), shard: 3 } };
    let to = shard.in_epoch(Epoch::new(4).unwrap());
    let requests = [ask(0, ReserveMode::Create), ask(1, ReserveMode::Look), ask(0, ReserveMode::Resume)];
    let settlements = [
        Settlement::Commit { order_no: no(), created_at: 7 },
        Settlement::WriteOff { order_no: no() },
        Settlement::CommitEarlier { order_no: no(), fingerprint: Fingerprint::from_bytes([6; 16]), created_at: 7 },
    ];
    let calls = [
        (Script::Load, to.load(&sale(), &[1, 2, 3], true), vec![3]),
        (Script::Reserve, to.reserve(9, &requests.each_ref()), vec![2, 3]),
        (Script::Settle, to.settle(&settlements), vec![1, 2]),
        (Script::Switch, shard.switch(Switch::Ended), vec![]),
        (Script::Adjust, to.adjust(1, -2), vec![]),
        (
            Script::ReturnUnits,
            to.return_units(&[ReturnedUnits { user: UserId::new(258).unwrap(), sku: 7, units: 9 }; 3]),
            vec![3],
        ),
        (Script::Level, shard.level(), vec![]),
        (Script::Overdue, to.overdue(9, 10, 11), vec![]),
    ];
    for (script, call, times) in &calls {
        let args = args(call);
        assert_eq!(args.len(), expected(*script, times), "{script:?}: {args:?}");
        assert!(script.text().lines().next().is_some_and(|line| line.starts_with("#!lua")));
    }
    let reserve = args(&calls[1].1);
    let heads: Vec<&[u8]> = reserve[..11].iter().map(Vec::as_slice).collect();
    assert_eq!(heads, [&b"4"[..], b"lineage", b"9", b"10000", b"clr", b"3", b"2", b"0", b"4", b"1", b"2"]);
    assert_eq!((reserve[11].len(), reserve[12].len()), (16, 50));
    let return_units = args(&calls[5].1);
    assert_eq!(
        (return_units[3].as_slice(), return_units[4].as_slice()),
        (&b"\0\0\0\0\0\0\x01\x02\0\x07"[..], &b"9"[..])
    );
}

#[test]
fn scripts_stand_where_their_number_says() {
    for (at, script) in Script::ALL.into_iter().enumerate() {
        assert_eq!(script as usize, at);
    }
}
