use super::*;
use crate::event::{Event, parse};
use globset::{GlobBuilder, GlobSetBuilder};
use std::collections::BTreeSet;

const ALL_EXTRA: [ExtraTag; 5] =
    [ExtraTag::RunAttempt, ExtraTag::Sender, ExtraTag::Actor, ExtraTag::TriggeringActor, ExtraTag::WorkflowPath];

fn tags_of(tagging: &Tagging, run: &Completed) -> Vec<String> {
    tagging.run(run, 0).tag_set.tags.clone()
}

fn with_extra(extra: &[ExtraTag]) -> Tagging {
    Tagging { extra: extra.to_vec(), ..tagging() }
}

fn with_constants(constant: &[&str]) -> Tagging {
    Tagging { constant: constant.iter().map(|tag| (*tag).to_owned()).collect(), ..tagging() }
}

/// The value of the tag `branch`.
fn branch(tagging: &Tagging, branch: &str, on_default_branch: bool) -> String {
    let run = Completed { branch: Some(branch.to_owned()), on_default_branch, ..completed() };
    let tags = tags_of(tagging, &run);
    tags.iter().find_map(|tag| tag.strip_prefix("branch:")).unwrap().to_owned()
}

#[test]
fn a_run_has_these_tags_sorted_and_no_others() {
    let expected = [
        "branch:main",
        "conclusion:success",
        "default_branch:true",
        "event:push",
        "repository_name:widgets",
        "repository_owner:acme",
        "sender_type:user",
        "workflow_name:ci",
    ];
    assert_eq!(tags_of(&tagging(), &completed()), expected);
}

#[test]
fn each_extra_tag_is_sent_only_where_it_is_asked_for() {
    let usual = tags_of(&tagging(), &completed());
    let expected = [
        "run_attempt:1",
        "sender:grace",
        "actor:ada",
        "triggering_actor:linus",
        "workflow_path:.github/workflows/ci.yml",
    ];
    for (extra, expected) in ALL_EXTRA.into_iter().zip(expected) {
        let mut tags = tags_of(&with_extra(&[extra]), &completed());
        tags.retain(|tag| !usual.contains(tag));
        assert_eq!(tags, [expected]);
    }
    assert_eq!(tags_of(&with_extra(&ALL_EXTRA), &completed()).len(), usual.len() + ALL_EXTRA.len());
}

#[test]
fn every_key_that_a_run_sets_is_reserved() {
    let tagging = Tagging { detail: Detail::Steps, ..with_extra(&ALL_EXTRA) };
    let elements: Vec<TagSet> = [completed(), completed_job()]
        .iter()
        .flat_map(|completed| tagging.run(completed, 0).tag_set.elements().map(Cow::into_owned).collect::<Vec<_>>())
        .collect();
    let tags = elements.iter().flat_map(|element| &element.tags);
    let keys: BTreeSet<&str> = tags.filter_map(|tag| tag.split(':').next()).collect();
    assert_eq!(keys, BTreeSet::from(TAG_KEYS));
}

#[test]
fn a_tag_without_a_value_is_left_out() {
    let nothing = |text: Option<&str>| {
        let text = || text.map(str::to_owned);
        Completed {
            repository: RepoName { owner: text(), name: "w".to_owned() },
            workflow: text(),
            workflow_path: text(),
            event: text(),
            branch: None,
            on_default_branch: false,
            sender_type: text(),
            sender: text(),
            actor: text(),
            triggering_actor: text(),
            ..concluded(None)
        }
    };
    let expected = ["conclusion:unknown", "default_branch:false", "repository_name:w", "run_attempt:1"];
    for text in [None, Some("\u{1f680}"), Some(" :_: ")] {
        assert_eq!(tags_of(&with_extra(&ALL_EXTRA), &nothing(text)), expected, "{text:?}");
    }
}

#[test]
fn no_tag_holds_the_id_of_a_run() {
    let mut run = completed();
    run.key = "30433642/attempts/7".parse().unwrap();
    let tags = tags_of(&with_extra(&ALL_EXTRA), &run);
    assert!(tags.contains(&"run_attempt:7".to_owned()));
    assert!(!tags.iter().any(|tag| tag.contains("30433642")), "{tags:?}");
}

#[test]
fn a_branch_is_sent_by_name_if_it_is_the_default_one_or_asked_for() {
    let mut globs = GlobSetBuilder::new();
    for glob in ["staging", "release/*"] {
        globs.add(GlobBuilder::new(glob).literal_separator(true).build().unwrap());
    }
    let asked = Tagging { branches: globs.build().unwrap(), ..tagging() };
    for (name, is_default, usual, as_asked) in [
        ("main", true, "main", "main"),
        ("Trunk/2", true, "trunk/2", "trunk/2"),
        ("main", false, "other", "other"),
        ("staging", false, "other", "staging"),
        ("staging-2", false, "other", "other"),
        ("release/1.0", false, "other", "release/1.0"),
        ("release/1.0/fix", false, "other", "other"),
    ] {
        assert_eq!(branch(&tagging(), name, is_default), usual, "{name}");
        assert_eq!(branch(&asked, name, is_default), as_asked, "{name}");
    }
}

#[test]
fn the_branch_of_a_fork_is_never_the_default_one() {
    let tags = |head_id: u64| {
        let body = json!({
            "action": "completed",
            "workflow_run": {"id": 1, "head_branch": "main", "head_repository": {"id": head_id}},
            "repository": {"id": 7, "name": "widgets", "default_branch": "main"},
        });
        match parse(Some("workflow_run"), body.to_string().as_bytes(), Detail::Runs).unwrap() {
            Event::Completed(run) => tags_of(&tagging(), &run),
            other => panic!("not completed: {other:?}"),
        }
    };
    let rest = ["conclusion:unknown", "repository_name:widgets"];
    assert_eq!(tags(7), ["branch:main", rest[0], "default_branch:true", rest[1]]);
    assert_eq!(tags(8), ["branch:other", rest[0], "default_branch:false", rest[1]]);
}

#[test]
fn constant_tags_are_on_every_run_in_form_and_once() {
    let plain = tags_of(&tagging(), &completed());
    let constants =
        ["Team:Core Infra", "env:prod", "env:prod", "team:core_infra", "standalone", "!", "conclusion:success"];
    let tags = tags_of(&with_constants(&constants), &completed());
    let mut expected = plain.clone();
    expected.extend(["env:prod", "standalone", "team:core_infra"].map(str::to_owned));
    expected.sort_unstable();
    assert_eq!(tags, expected);
}

#[test]
fn a_tag_is_put_into_datadogs_form() {
    for (text, form) in [
        ("workflow_name:CI", "workflow_name:ci"),
        ("a:ÀÉÎ Ünïcode Ω Я", "a:àéî_ünïcode_ω_я"),
        ("a:ビルド 構築", "a:ビルド_構築"),
        ("a:x-y_z.w/v:u", "a:x-y_z.w/v:u"),
        ("a:x@y#z", "a:x_y_z"),
        ("a:x - y", "a:x_-_y"),
        ("a:x!?  __y", "a:x_y"),
        ("a:x\n\ty\u{0}z", "a:x_y_z"),
        ("a:\u{1f680} ship", "a:_ship"),
        ("a:x_", "a:x"),
        ("a:x:_:__", "a:x"),
        ("a:x-./", "a:x-./"),
        ("a:İx", "a:i_x"),
        ("123abc:1", "abc:1"),
        ("_-:./a:1", "a:1"),
        ("é:1", "é:1"),
        ("alone", "alone"),
    ] {
        assert_eq!(tag_form(text).as_deref(), Some(form), "{text:?}");
    }
}

#[test]
fn a_text_of_which_nothing_is_left_is_no_tag() {
    for text in ["", "123", "___", ":", "\u{1f680}", "1:2"] {
        assert_eq!(tag_form(text), None, "{text:?}");
    }
    for value in [None, Some(""), Some("_"), Some(":::"), Some(" \u{1f680} ")] {
        assert_eq!(tag("branch", value), None, "{value:?}");
    }
    assert_eq!(tag("branch", Some("1")).as_deref(), Some("branch:1"));
}

#[test]
fn a_tag_has_200_characters_at_the_most_with_its_key() {
    let exact = format!("a:{}", "x".repeat(198));
    assert_eq!(tag_form(&exact).as_deref(), Some(exact.as_str()));
    assert_eq!(tag_form(&format!("{exact}y")), Some(exact));
    // Characters are counted, not bytes, and after a letter has become two in lower case.
    assert_eq!(tag("a", Some(&"é".repeat(300))), Some(format!("a:{}", "é".repeat(198))));
    assert_eq!(tag("a", Some(&"İ".repeat(300))), Some(format!("a:{}i", "i_".repeat(98))));
    // What is made one takes one character.
    assert_eq!(tag("a", Some(&format!("x{}{}", "!".repeat(300), "y".repeat(300)))), {
        Some(format!("a:x_{}", "y".repeat(196)))
    });
    assert_eq!(tag_form(&format!("{}a:b", "1".repeat(300))).as_deref(), Some("a:b"));
}

#[test]
fn the_cut_leaves_no_underscore_or_colon_at_the_end() {
    for end in ["_y", ":y", "!:_:y"] {
        let text = format!("a:{}{end}", "x".repeat(197));
        assert_eq!(tag_form(&text), Some(format!("a:{}", "x".repeat(197))), "{end}");
    }
}

/// The rules as Datadog has them, one by one.
fn assert_form(tag: &str) {
    let chars = || tag.chars();
    assert!(
        chars().next().is_some_and(|char| is_kept(char) && !"_-:./0123456789".contains(char)),
        "{tag:?}: a letter first"
    );
    assert!(chars().all(is_kept), "{tag:?}: kept characters");
    assert!(chars().all(|char| char.to_lowercase().eq([char])), "{tag:?}: lower case");
    assert!(!tag.contains("__"), "{tag:?}: runs of _ are one");
    assert!(!tag.ends_with(['_', ':']), "{tag:?}: nothing to cut at the end");
    assert!(chars().count() <= 200, "{tag:?}: 200 characters");
}

fn long_text() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => any::text(),
        1 => prop::collection::vec(any::<char>(), 2500..10_000).prop_map(String::from_iter),
        1 => "[_:]{0,3}[a-zé]{190,200}[_:!]{0,8}[a-z_:]{0,8}",
    ]
}

proptest! {
    #[test]
    fn the_form_of_any_text_obeys_the_rules_and_is_kept(text in long_text()) {
        if let Some(formed) = tag_form(&text) {
            assert_form(&formed);
            prop_assert_eq!(tag_form(&formed), Some(formed));
        }
    }

    #[test]
    fn the_tag_of_any_value_is_none_or_begins_with_its_key(value in long_text()) {
        for key in TAG_KEYS {
            if let Some(tag) = tag(key, Some(&value)) {
                assert_form(&tag);
                let value = tag.strip_prefix(key).and_then(|rest| rest.strip_prefix(':'));
                prop_assert!(value.is_some_and(|value| !value.is_empty()), "{}", tag);
            }
        }
    }

    #[test]
    fn the_tags_of_any_run_obey_the_rules_and_are_sorted_and_unique(
        run in any::completed(),
        constant in prop::collection::vec(any::text(), 0..4),
    ) {
        let tags = tags_of(&Tagging { extra: ALL_EXTRA.to_vec(), constant, ..tagging() }, &run);
        for tag in &tags {
            assert_form(tag);
        }
        prop_assert!(tags.is_sorted_by(|a, b| a < b), "{:?}", tags);
        for key in ["conclusion:", "default_branch:", "run_attempt:"] {
            prop_assert!(tags.iter().any(|tag| tag.starts_with(key)), "{:?} lacks {}", tags, key);
        }
    }

    #[test]
    fn equal_tags_always_mean_equal_metric_names(conclusions in [any::text(), any::text()]) {
        let names = |conclusion: &String| {
            let run = tagging().run(&concluded(Some(conclusion)), 0);
            (run.tag_set.tags.clone(), payload(&[slot_of(run)]).series[1].metric.clone())
        };
        let [(tags, name), (other_tags, other_name)] = conclusions.each_ref().map(names);
        prop_assert!(tags != other_tags || name == other_name);
    }
}

/// Unicode letters, decimal digits of any script, and five marks.
fn is_kept(char: char) -> bool {
    use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};
    char.general_category_group() == GeneralCategoryGroup::Letter
        || char.general_category() == GeneralCategory::DecimalNumber
        || "_-:./".contains(char)
}

#[test]
fn numbers_that_are_no_digits_and_marks_that_are_no_letters_are_not_kept() {
    assert_eq!(tag_form("build①½ⅷ x").as_deref(), Some("build_x"));
    assert_eq!(tag_form("build7ビルド").as_deref(), Some("build7ビルド"));
}
