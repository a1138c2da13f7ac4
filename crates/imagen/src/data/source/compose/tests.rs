//! Laws of composed pictures, on the small world of `tests/golden/world` and on the grammar of the default model.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::arrangement::{Arrangement, Backdrop, Relation};
use super::cells::Cell;
use super::grammar::{Grammar, Tint};
use super::plan::Plan;
use super::scene::Scene;
use super::*;
use crate::error::ErrorKind;
use crate::image::Filter;

/// How many pictures of each split the laws are held to.
const PICTURES: u64 = 1500;
const BOTH: [Split; 2] = [Split::Train, Split::Validation];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/world")
}

fn world() -> World {
    World::open(&folder()).unwrap()
}

/// The plans of a split with their captions.
fn plans(world: &World, split: Split) -> impl Iterator<Item = (Plan, Vec<String>)> + '_ {
    (0..PICTURES).map(move |number| {
        let plan = world.plan(split, world.key(split, number)).unwrap();
        (plan, world.captions(split, number).unwrap())
    })
}

/// A copy of the small world in which a text of a file is replaced.
fn changed(file: &str, from: &str, to: &str) -> (tempfile::TempDir, Result<World>) {
    let copy = tempfile::tempdir().unwrap();
    let mut open = vec![PathBuf::new()];
    while let Some(below) = open.pop() {
        std::fs::create_dir_all(copy.path().join(&below)).unwrap();
        for entry in std::fs::read_dir(folder().join(&below)).unwrap() {
            let (entry, below) = (entry.as_ref().unwrap(), below.join(entry.as_ref().unwrap().file_name()));
            if entry.file_type().unwrap().is_dir() {
                open.push(below)
            } else {
                std::fs::copy(entry.path(), copy.path().join(below)).unwrap();
            }
        }
    }
    let path = copy.path().join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from}");
    std::fs::write(&path, text.replace(from, to)).unwrap();
    let world = World::open(copy.path());
    (copy, world)
}

#[test]
fn no_held_out_cell_is_trained_on_and_every_validation_picture_holds_one() {
    let world = world();
    let held = |plan: &Plan| plan.cells(&world.words).into_iter().filter(|&cell| world.words.holds_out(cell)).count();
    for (plan, captions) in plans(&world, Split::Train) {
        assert_eq!(held(&plan), 0, "{}", captions[0]);
    }
    let mut kinds = BTreeSet::new();
    for (plan, captions) in plans(&world, Split::Validation) {
        assert!(held(&plan) > 0, "{}", captions[0]);
        kinds.extend(plan.cells(&world.words).into_iter().filter(|&cell| world.words.holds_out(cell)).map(Cell::kind));
    }
    assert!(kinds.len() >= 6, "held out are combinations of many kinds: {kinds:?}");
}

#[test]
fn every_atom_is_seen_in_training() {
    let world = world();
    let (mut styles, mut nouns, mut tints, mut scenes) =
        <(BTreeSet<_>, BTreeSet<_>, BTreeSet<_>, BTreeSet<_>)>::default();
    for (plan, _) in plans(&world, Split::Train) {
        styles.insert(plan.style);
        nouns.extend(plan.arrangement.things().map(|thing| thing.noun));
        tints.extend(plan.arrangement.things().filter_map(|thing| thing.tint));
        if let Backdrop::Scene(scene) = plan.backdrop {
            scenes.insert(scene);
        }
    }
    let words = &world.words;
    let whole = (0..words.bank.nouns().len()).filter(|&noun| words.holds_out(Cell::Noun(noun))).count();
    assert_eq!(styles.len(), words.grammar.styles.len());
    assert_eq!((nouns.len() + whole, scenes.len()), (words.bank.nouns().len(), words.scenes.len()));
    assert_eq!(tints.len(), words.styles[0].tints.len());
}

#[test]
fn captions_name_what_is_in_the_picture_and_nothing_else() {
    let world = world();
    let words = &world.words;
    let grammar = &words.grammar;
    let names = |colour: usize| {
        let colour = &grammar.colours[colour];
        std::iter::once(&colour.name).chain(&colour.words).cloned().collect::<Vec<_>>()
    };
    for (plan, captions) in BOTH.into_iter().flat_map(|split| plans(&world, split)) {
        let (mut must, mut may) = (BTreeSet::new(), BTreeSet::new());
        for thing in plan.arrangement.things() {
            // a silhouette or a sketch of a red apple is not red
            let drawn = words.bank.nouns()[thing.noun].cutouts[thing.cutout].colour.as_deref();
            let shaded = grammar.styles[plan.style].tint == Tint::Shade;
            must.extend(thing.tint.or_else(|| grammar.colour(drawn.filter(|_| shaded)?)));
        }
        match plan.backdrop {
            Backdrop::Colour(colour) if colour == words.white => drop(may.insert(colour)),
            Backdrop::Colour(colour) => drop(must.insert(colour)),
            _ => {}
        }
        may.extend(&must);
        assert!((1..=6).contains(&captions.len()), "{captions:?}");
        assert_eq!(captions.iter().collect::<BTreeSet<_>>().len(), captions.len(), "{captions:?}");
        for caption in &captions {
            let said: Vec<&str> = caption.split([' ', ',']).filter(|word| !word.is_empty()).collect();
            let says = |phrase: &str| format!(" {} ", said.join(" ")).contains(&format!(" {phrase} "));
            for colour in 0..grammar.colours.len() {
                let named = names(colour).iter().any(|name| says(name));
                assert!(named || !must.contains(&colour), "{} is missing in {caption}", grammar.colours[colour].name);
                assert!(!named || may.contains(&colour), "{} is not there: {caption}", grammar.colours[colour].name);
            }
            for (place, noun) in words.bank.nouns().iter().enumerate() {
                let forms = std::iter::once((&noun.noun, &noun.plural));
                let forms = forms.chain(noun.synonyms.iter().map(|synonym| (&synonym.noun, &synonym.plural)));
                let many = matches!(plan.arrangement, Arrangement::Count { .. });
                let named = forms.into_iter().any(|(one, more)| says(if many { more } else { one }));
                let there = plan.arrangement.things().any(|thing| thing.noun == place);
                assert_eq!(named, there, "{} and {caption}", noun.noun);
            }
            let style = &grammar.styles[plan.style];
            let suffixed = style.suffixes.iter().any(|suffix| caption.ends_with(suffix.as_str()));
            let prefixed = style.suffixes.iter().any(|suffix| caption.contains(suffix.as_str()));
            let unsaid = plan.arrangement.things().all(|thing| words.unsaid[thing.noun] == Some(plan.style));
            assert!(unsaid || suffixed || prefixed, "the style is missing in {caption}");
            if let Backdrop::Scene(scene) = plan.backdrop {
                assert!(grammar.scenes[&words.scenes[scene]].iter().any(|phrase| says(phrase)), "{caption}");
            }
            if let Arrangement::Count { count, .. } = plan.arrangement {
                assert!(grammar.numbers[count - 2].iter().any(|number| says(number)), "{caption}");
            }
            if let Arrangement::Pair { first, relation, second } = plan.arrangement {
                let at = |noun: usize| {
                    let noun = &words.bank.nouns()[noun];
                    let forms = std::iter::once(&noun.noun).chain(noun.synonyms.iter().map(|synonym| &synonym.noun));
                    forms.into_iter().find_map(|form| caption.find(form.as_str())).unwrap()
                };
                let relations = &grammar.relations;
                let (forward, back) = match relation {
                    Relation::Left => (&relations.left, &relations.right),
                    Relation::Above => (&relations.above, &relations.below),
                    Relation::On => (&relations.on, &relations.under),
                    Relation::Front => (&relations.front, &relations.behind),
                };
                let first_leads = at(first.noun) < at(second.noun);
                let right = if first_leads { forward } else { back };
                let beside = relation == Relation::Left && relations.beside.iter().any(|phrase| says(phrase));
                assert!(beside || right.iter().any(|phrase| says(phrase)), "{caption}");
            }
        }
    }
}

#[test]
fn articles_fit_the_words_that_follow() {
    let world = world();
    for (_, captions) in BOTH.into_iter().flat_map(|split| plans(&world, split)) {
        for caption in captions {
            let said: Vec<&str> = caption.split([' ', ',']).filter(|word| !word.is_empty()).collect();
            for pair in said.windows(2) {
                let vowel = pair[1].starts_with(['a', 'e', 'i', 'o', 'u']);
                assert!(pair[0] != "a" || !vowel, "{caption}");
                assert!(pair[0] != "an" || vowel, "{caption}");
            }
        }
    }
}

#[test]
fn a_picture_is_a_function_of_its_number_and_the_same_at_every_size() {
    let (one, other) = (world(), world());
    for split in BOTH {
        for number in [0, 1, 2, 77, 1_000_000_007] {
            let [a, b] = [&one, &other].map(|world| world.picture(split, number, 64).unwrap());
            assert!(a == b, "{split:?} {number}");
            assert_eq!(one.captions(split, number).unwrap(), other.captions(split, number).unwrap());
        }
        for number in 0..60 {
            let small = one.picture(split, number, 64).unwrap();
            let large = one.picture(split, number, 256).unwrap().resize(64, 64, Filter::Area).unwrap();
            let differences = small.pixels().iter().zip(large.pixels()).map(|(a, b)| u32::from(a.abs_diff(*b)));
            let mean = f64::from(differences.sum::<u32>()) / small.pixels().len() as f64;
            assert!(mean < 6.0, "{split:?} {number}: {mean} of 255");
        }
    }
    let pictures: BTreeSet<Vec<u8>> =
        (0..50).map(|number| one.picture(Split::Train, number, 32).unwrap().into_pixels()).collect();
    assert_eq!(pictures.len(), 50, "no two are alike");
}

#[test]
fn what_is_at_each_place_is_what_the_plan_says_and_where_it_says_it() {
    const CELLS: usize = 24;
    let world = world();
    let (mut pairs, mut background) = (0, [0, 0]);
    for number in 0..300 {
        let composition = world.composition(Split::Train, number).unwrap();
        let (plan, at) = (composition.plan, composition.things(CELLS).unwrap());
        assert_eq!(at.len(), CELLS * CELLS);
        let found: BTreeSet<usize> = at.iter().copied().filter(|&thing| thing > 0).collect();
        assert_eq!(found, plan.arrangement.things().map(|thing| thing.noun + 1).collect(), "{number}");
        if let Arrangement::Pair { first, relation: relation @ (Relation::Left | Relation::Above), second } =
            plan.arrangement
        {
            let middle = |noun: usize| {
                let places = (0..at.len()).filter(|&place| at[place] == noun + 1);
                let along = |place: usize| if relation == Relation::Left { place % CELLS } else { place / CELLS };
                let (sum, count) = places.map(along).fold((0, 0), |(sum, count), along| (sum + along, count + 1));
                sum as f64 / f64::from(count)
            };
            assert!(middle(first.noun) + 6.0 < middle(second.noun), "{number}");
            pairs += 1;
        }
        // where no thing is, a plain background is seen
        if let (Backdrop::Colour(colour), None) = (plan.backdrop, world.words.grammar.styles[plan.style].effect) {
            let picture = world.picture(Split::Train, number, CELLS).unwrap();
            let wanted = world.words.grammar.colours[colour].rgb;
            for place in (0..at.len()).filter(|&place| at[place] == 0) {
                let there = picture.pixel(place % CELLS, place / CELLS);
                let far: u32 = there.iter().zip(wanted).map(|(a, b)| u32::from(a.abs_diff(b))).sum();
                background[usize::from(far > 60)] += 1;
            }
        }
    }
    assert!(pairs > 30);
    // some pixels hold the rim of a thing whose box ends within them
    let [seen, hidden] = background;
    assert!(hidden * 20 < seen, "{hidden} of {seen}");
}

#[test]
fn a_drawing_keeps_its_shape_whatever_its_sides() {
    // a bar, 0.2 as wide as high, 13 pixels of 67: halving rounds both sides up
    let (folder, _) = changed("grammar.toml", "seed = 7", "seed = 7\nnouns = [\"pole\"]");
    let pole = Picture::filled(13, 67, [200, 30, 30, 255]);
    let bytes = crate::image::png::encode(&pole, &Default::default()).unwrap();
    std::fs::write(folder.path().join("cutouts/3d/pole.png"), bytes).unwrap();
    let world = World::open(folder.path()).unwrap();
    let plain = |plan: &Plan| {
        let usual =
            matches!(plan.arrangement, Arrangement::One { thing, place: None, size: None } if thing.tint.is_none());
        plan.style == 0 && usual && matches!(plan.backdrop, Backdrop::Colour(_))
    };
    let numbers = (0..400).filter(|&number| plain(&world.plan(Split::Train, world.key(Split::Train, number)).unwrap()));
    for number in numbers.take(5) {
        let picture = world.picture(Split::Train, number, 256).unwrap();
        let red = |at: &usize| {
            let [r, g, b] = picture.pixel(at % 256, at / 256);
            r > 150 && g < 80 && b < 80
        };
        let area = (0..256 * 256).filter(red).count() as f64;
        let rows: BTreeSet<usize> = (0..256 * 256).filter(red).map(|at| at / 256).collect();
        // turned by at most 0.15, so that its rows are nearly its length
        let length = rows.len() as f64;
        assert!((area / (length * length) / (13.0 / 67.0) - 1.0).abs() < 0.2, "{number}: {area} of {length} rows");
        assert!(rows.len() > 150 && !rows.contains(&0) && !rows.contains(&255), "{number}: whole, and inside");
    }
}

#[test]
fn a_world_that_holds_nothing_out_has_no_validation_pictures() {
    let (_folder, world) = changed("grammar.toml", "cells = 0.15\nnouns = 0.1", "cells = 0.0\nnouns = 0.0");
    assert!(!world.unwrap().holds_out());
    let source = super::super::Source::open(_folder.path()).unwrap();
    assert!(source.examples().iter().all(|example| example.split == Split::Train));
}

#[test]
fn questions_ask_about_one_factor_and_their_candidates_say_different_things() {
    let world = world();
    for factor in Factor::ALL {
        for held_out in [false, true] {
            for number in 0..6 {
                let Some(question) = world.question(factor, held_out, number) else { continue };
                let captions: BTreeSet<_> = question.candidates.iter().map(|candidate| &candidate.caption).collect();
                assert_eq!(captions.len(), question.candidates.len(), "{factor}: {captions:?}");
                assert_eq!(question.candidates[0].caption, question.caption);
                let [first, again, other] =
                    [3, 3, 4].map(|k| world.candidate(&question.candidates[0], k, 32).unwrap().into_pixels());
                assert_eq!(first, again);
                assert_ne!(first, other, "{factor}");
            }
        }
        assert!(world.question(factor, false, 0).is_some(), "{factor}");
        assert_eq!(factor.name().parse::<Factor>().unwrap(), factor);
    }
}

#[test]
fn the_default_models_grammar_is_one() {
    let text = include_str!("../../../../../../recipes/world/grammar.toml");
    let grammar = Grammar::parse(text).unwrap();
    assert!(grammar.styles.len() >= 13 && grammar.scenes.len() == Scene::ALL.len());
    assert!(grammar.styles.iter().all(|style| style.tint == Tint::None || style.colours.as_ref() != Some(&Vec::new())));
}

#[test]
fn what_cannot_be_composed_is_refused_in_one_line_that_names_it() {
    let cases = [
        (
            "grammar.toml",
            "seed = 7",
            "seed = 7\nnouns = [\"ball\", \"unicorn\"]",
            "noun \"unicorn\" has no cut-out in bank.json",
        ),
        ("grammar.toml", "keep = [\"ball\"", "keep = [\"bell\"", "held_out.keep names \"bell\""),
        (
            "grammar.toml",
            "cutouts = [\"line icon\"]",
            "cutouts = [\"oil\"]",
            "nothing can be drawn in style \"line icon\"",
        ),
        ("grammar.toml", "\"yellow\", \"blue\"]", "\"yellow\", \"bleu\"]", "background \"bleu\" is no colour"),
        ("grammar.toml", "meadow =", "meadows =", "unknown scene 'meadows', expected one of: meadow, beach"),
        (
            "grammar.toml",
            "\"top left\" =",
            "\"upper left\" =",
            "unknown place 'upper left', expected one of: top left, top",
        ),
        (
            "grammar.toml",
            "effect = \"pencil sketch\"",
            "effect = \"pencil\"",
            "unknown effect 'pencil', expected one of: pixel art",
        ),
        ("grammar.toml", "one = 0.5", "one = 0.5\nall = 1", "unknown field `all`"),
        ("grammar.toml", "rgb = \"#d8383c\"", "rgb = \"red\"", "colour \"red\" is not of the form \"#d8383c\""),
        ("grammar.toml", "white = 0.4", "white = 1.4", "mix.white = 1.4 is a probability; expected 0 to 1"),
        ("grammar.toml", "default = true", "default = false", "no style says `default = true`"),
        ("grammar.toml", "above = [\"above\"]", "above = []", "relations.above is empty"),
        ("grammar.toml", "a {colour} line icon", "a {color} line icon", "holds \"a {color} line icon of\""),
        (
            "grammar.toml",
            "\"on {colour}\"",
            "\"on a colour\"",
            "background_phrases holds \"on a colour\"; expected {colour} once",
        ),
        ("grammar.toml", "meadow = [\"in a", "meadow = [\"in a {colour}", "scenes.meadow holds"),
        ("grammar.toml", "\"yellow\", \"blue\"]", "\"yellow\", \"white\"]", "backgrounds lists white"),
        ("grammar.toml", "words = [\"amber\"]", "words = [\"red\"]", "the name \"red\" is there twice in [[colours]]"),
        ("grammar.toml", "name = \"flat\"", "name = \"3d\"", "style \"3d\" is there twice"),
        ("bank.json", "\"noun\": \"globe\"", "\"noun\": \"egg\"", "the name \"egg\" is there twice"),
        ("bank.json", "\"imagen_bank\": 1", "\"imagen_bank\": 2", "has version 2, and version 1 is read"),
        ("bank.json", "cutouts/3d/ball.png", "cutouts/3d/bell.png", "names cutouts/3d/bell.png, which is not in"),
        ("bank.json", "cutouts/3d/ball.png", "../ball.png", "noun \"ball\""),
        ("bank.json", "\"noun\": \"box\"", "\"noun\": \"ball\"", "the name \"ball\" is there twice"),
        ("bank.json", "\"nouns\"", "\"words\"", "is no index of cut-outs"),
    ];
    for (file, from, to, expected) in cases {
        let (_folder, world) = changed(file, from, to);
        let error = world.err().unwrap_or_else(|| panic!("{to} was accepted"));
        let text = format!("{error:#}");
        assert!(text.contains(expected) && text.contains(file) && !text.contains('\n'), "{to}: {text}");
        assert_eq!(error.kind(), ErrorKind::Data);
    }
}

#[test]
fn a_broken_drawing_is_named_and_a_share_of_everything_leaves_nothing_to_compose() {
    let (folder, world) = changed("grammar.toml", "seed = 7", "seed = 7\nnouns = [\"ball\"]");
    std::fs::write(folder.path().join("cutouts/flat/ball.png"), "no picture").unwrap();
    let world = world.unwrap();
    let broken = (0..60).find_map(|number| world.picture(Split::Train, number, 16).err()).unwrap();
    assert!(format!("{broken:#}").contains("ball.png") && broken.kind() == ErrorKind::Data, "{broken:#}");
    let (_folder, all) = changed("grammar.toml", "cells = 0.15", "cells = 1.0");
    let (_folder, none) = changed("grammar.toml", "cells = 0.15\nnouns = 0.1", "cells = 0.0\nnouns = 0.0");
    let composable = |world: Result<World>, split| world.unwrap().captions(split, 0);
    let error = composable(none, Split::Validation).unwrap_err();
    assert!(format!("{error:#}").contains("no picture with a held-out cell can be composed"), "{error:#}");
    assert!(composable(all, Split::Validation).is_ok());
}
