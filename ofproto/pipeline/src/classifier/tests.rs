//! The classifier against the obvious one: a list searched from the top.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
struct Rule {
    mini: MiniMatch,
    priority: u32,
    conjunctions: Vec<Conjunction>,
    id: usize,
}

impl Classified for Arc<Rule> {
    fn mini(&self) -> &MiniMatch {
        &self.mini
    }
    fn priority(&self) -> u32 {
        self.priority
    }
    fn conjunctions(&self) -> &[Conjunction] {
        &self.conjunctions
    }
}

/// Few values and many masks, so that rules meet.
fn key() -> impl Strategy<Value = Key> {
    (0u8..2, 0u8..2, prop::array::uniform4(0u8..3), prop::array::uniform4(0u8..3), 0u8..3, (0u8..4, 0u8..2)).prop_map(
        |(port, eth, src, dst, tp, (ttl, reg))| Key {
            in_port: [0, 0, 0, port],
            eth_dst: [0, 0, 0, 0, 0, eth],
            nw_src: src,
            nw_dst: dst,
            tp_dst: [0, tp * 80],
            nw_ttl: ttl,
            regs: {
                let mut r = [[0; 4]; 32];
                r[0][3] = reg;
                r
            },
            ..Key::ZERO
        },
    )
}

fn mask() -> impl Strategy<Value = Mask> {
    (any::<bool>(), any::<bool>(), 0u32..=32, 0u32..=32, 0u32..=16, prop::sample::select(vec![0u8, 1, 2, 255]), any::<bool>())
        .prop_map(|(port, eth, src, dst, tp, ttl, reg)| {
            let prefix = |n: u32| u32::MAX.checked_shl(32 - n).unwrap_or(0).to_be_bytes();
            let p = prefix(tp);
            Key {
                in_port: if port { [255; 4] } else { [0; 4] },
                eth_dst: if eth { [255; 6] } else { [0; 6] },
                nw_src: prefix(src),
                nw_dst: prefix(dst),
                tp_dst: [p[0], p[1]],
                nw_ttl: ttl,
                regs: {
                    let mut r = [[0; 4]; 32];
                    if reg {
                        r[0] = [255; 4];
                    }
                    r
                },
                ..Key::ZERO
            }
        })
}

fn best(rules: &[Arc<Rule>], key: &Key) -> Option<u32> {
    rules.iter().filter(|r| r.mini.matches(key)).map(|r| r.priority).max()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn agrees_with_a_list(rules in prop::collection::vec((key(), mask(), 0u32..6), 1..40),
                          drops in prop::collection::vec(any::<bool>(), 40),
                          keys in prop::collection::vec((key(), key()), 20)) {
        let mut classifier = Classifier::default();
        let mut list: Vec<Arc<Rule>> = Vec::new();
        for (id, (k, m, priority)) in rules.iter().enumerate() {
            let rule = Arc::new(Rule { mini: classifier.mini(k, m), priority: *priority, conjunctions: vec![], id });
            list.retain(|r| (r.mini != rule.mini) || r.priority != rule.priority);
            list.push(Arc::clone(&rule));
            classifier.insert(rule);
        }
        for (i, rule) in list.clone().iter().enumerate() {
            if drops[i] {
                let gone = classifier.remove(&rule.mini, rule.priority).expect("it is there");
                prop_assert_eq!(gone.id, rule.id);
                list.retain(|r| r.id != rule.id);
            }
        }
        prop_assert_eq!(classifier.len(), list.len());
        for (k, noise) in &keys {
            let mut wildcards = Key::ZERO;
            let found = classifier.lookup(k, Some(&mut wildcards));
            prop_assert_eq!(found.map(|r| r.priority), best(&list, k));
            prop_assert!(found.is_none_or(|r| r.mini.matches(k)));
            prop_assert_eq!(classifier.lookup(k, None).map(|r| r.priority), best(&list, k));
            // Every key that agrees in the bits that decided has the same answer.
            let mut other = *noise;
            for ((o, k), w) in other.words_mut().iter_mut().zip(k.words()).zip(wildcards.words()) {
                *o = *o & !w | k & w;
            }
            prop_assert_eq!(classifier.lookup(&other, None).map(|r| r.priority), best(&list, k));
        }
    }

    #[test]
    fn conjunctions_agree_with_their_meaning(src in prop::collection::vec(0u8..4, 1..3), dst in prop::collection::vec(0u8..4, 1..3),
                                             hard in 0u32..3, k in (0u8..4, 0u8..4)) {
        let mut classifier = Classifier::default();
        let full = [255u8; 4];
        let add = |c: &mut Classifier<Arc<Rule>>, key: Key, mask: Mask, priority, conjunctions, id| {
            let mini = c.mini(&key, &mask);
            c.insert(Arc::new(Rule { mini, priority, conjunctions, id }));
        };
        for s in &src {
            add(&mut classifier, Key { nw_src: [10, 0, 0, *s], ..Key::ZERO }, Key { nw_src: full, ..Key::ZERO }, 1,
                vec![Conjunction { id: 7, clause: 0, n_clauses: 2 }], 1);
        }
        for d in &dst {
            add(&mut classifier, Key { nw_dst: [10, 0, 0, *d], ..Key::ZERO }, Key { nw_dst: full, ..Key::ZERO }, 1,
                vec![Conjunction { id: 7, clause: 1, n_clauses: 2 }], 2);
        }
        add(&mut classifier, Key { conj_id: [0, 0, 0, 7], ..Key::ZERO }, Key { conj_id: full, ..Key::ZERO }, 1, vec![], 3);
        add(&mut classifier, Key::ZERO, Key::ZERO, hard, vec![], 4);
        let key = Key { nw_src: [10, 0, 0, k.0], nw_dst: [10, 0, 0, k.1], ..Key::ZERO };
        let complete = src.contains(&k.0) && dst.contains(&k.1);
        let mut wildcards = Key::ZERO;
        let found = classifier.lookup(&key, Some(&mut wildcards)).map(|r| r.id);
        prop_assert_eq!(found, Some(if complete && hard < 1 { 3 } else { 4 }));
        prop_assert_eq!(wildcards.conj_id, [0; 4]);
    }
}

#[test]
fn masks_stay_wide() {
    let check = |rules: &[(Key, Mask, u32)], key: Key| {
        let mut classifier = Classifier::default();
        for (id, (k, m, priority)) in rules.iter().enumerate() {
            let mini = classifier.mini(k, m);
            classifier.insert(Arc::new(Rule { mini, priority: *priority, conjunctions: vec![], id }));
        }
        let mut wildcards = Key::ZERO;
        let _ = classifier.lookup(&key, Some(&mut wildcards));
        wildcards
    };
    let full = [255u8; 4];
    let web = Key { nw_dst: [10, 0, 0, 1], tp_dst: [0, 80], ..Key::ZERO };
    let web_mask = Key { nw_dst: full, tp_dst: [255; 2], ..Key::ZERO };
    // The trie tells with one bit that no address begins like this one.
    let far = check(&[(web, web_mask, 5)], Key { nw_dst: [192, 0, 0, 1], ..Key::ZERO });
    assert_eq!((far.nw_dst, far.tp_dst), ([0x80, 0, 0, 0], [0; 2]));
    // In the last stage, the leading bits of the port are enough.
    let port = check(&[(web, web_mask, 5)], Key { tp_dst: [0x1f, 0x90], ..web });
    assert_eq!((port.nw_dst, port.tp_src, port.tp_dst), (full, [0; 2], [0xf0, 0]));
    // Metadata that no rule has leaves everything else wild.
    let other_port = check(
        &[(Key { in_port: [0, 0, 0, 1], ..web }, Key { in_port: full, ..web_mask }, 5)],
        Key { in_port: [0, 0, 0, 2], ..web },
    );
    assert_eq!((other_port.in_port, other_port.nw_dst), (full, [0; 4]));
}
