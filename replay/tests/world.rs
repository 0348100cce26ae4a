//! The state at a moment, and what leads from one to another.

use std::sync::Arc;

use protocol::Pose;
use replay::world::{Step, difference};
use replay::{Action, Keyframe, MemberId, Moment, Objects, What, Who, World};

const OBJECTS: &str = r#"[{"id":"a","type":"cube","colour":"red","version":3,"owner":"user_1"},
    {"id":7,"type":"cube","version":1,"owner":"user_2"}]"#;

fn user(member: u64) -> String {
    format!(
        r#"{{"id":"user_{member}","socketId":"s{member}","username":"U","slot":{member},"position":{{"x":{member},"y":1.6,"z":0}},"rotation":{{"x":0,"y":0,"z":0}}}}"#
    )
}

fn world(members: &[u64]) -> World {
    let members = members.iter().map(|member| (MemberId(*member), user(*member))).collect();
    let objects = Objects::UnchangedSince(5);
    World::from_keyframe(&Keyframe { opens: false, max_users: 50, members, objects }, OBJECTS)
        .expect("a legal keyframe")
}

fn who(member: u64) -> Arc<Who> {
    Arc::new(Who::new(&format!("user_{member}"), &format!("s{member}")))
}

fn act(world: &mut World, member: u64, action: Action) {
    let what = What::Event { member: MemberId(member), who: who(member), action };
    world.apply(&Moment { at_ms: 1, what });
}

fn moved(x: f32) -> Pose {
    let mut pose = Pose::INITIAL;
    pose.head.position[0] = x;
    pose
}

fn walk(world: &mut World, member: u64, x: f32) {
    let what = What::Move { member: MemberId(member), who: who(member), pose: moved(x) };
    world.apply(&Moment { at_ms: 1, what });
}

/// Both as JSON, to be compared.
fn shown(world: &World) -> (Vec<String>, Vec<String>) {
    let users = world.members().values().map(|member| member.to_json()).collect();
    (users, world.objects().values().map(|object| object.to_json()).collect())
}

/// A viewer's world after the steps; it is told of them in the words of events.
fn after(world: &World, steps: &[Step]) -> World {
    let mut world = world.clone();
    for step in steps.iter().cloned() {
        let (member, who, action) = match step {
            Step::Leave { member, who } => (member, who, Action::Leave),
            Step::Join { member, who, user, .. } => (member, who, Action::Join { user }),
            Step::UserUpdate { member, who, update } => (member, who, Action::UserUpdate { update }),
            Step::Move { member, who, pose } => {
                world.apply(&Moment { at_ms: 1, what: What::Move { member, who, pose } });
                continue;
            }
            Step::ObjectDelete { id } => (MemberId(0), who(0), Action::ObjectDelete { id }),
            Step::ObjectCreate { object, version, owner, .. } => {
                (MemberId(0), Arc::new(Who::new(&owner, "")), Action::ObjectCreate { object, version })
            }
            Step::ObjectUpdate { update, .. } => (MemberId(0), who(0), Action::ObjectUpdate { update }),
        };
        world.apply(&Moment { at_ms: 1, what: What::Event { member, who, action } });
    }
    world
}

#[test]
fn a_keyframe_is_a_state() {
    let (users, objects) = shown(&world(&[1, 2]));
    assert_eq!(users, [user(1), user(2)]);
    assert_eq!(
        objects,
        [
            r#"{"id":"a","type":"cube","colour":"red","version":3,"owner":"user_1"}"#,
            r#"{"id":7,"type":"cube","version":1,"owner":"user_2"}"#
        ]
    );
    let keyframe =
        Keyframe { opens: false, max_users: 1, members: vec![], objects: Objects::UnchangedSince(1) };
    for wrong in ["", "{}", r#"[{"id":1}]"#, r#"[{"version":1,"owner":"a"}]"#] {
        assert!(World::from_keyframe(&keyframe, wrong).is_err(), "{wrong}");
    }
}

#[test]
fn what_happens_changes_the_state() {
    let mut world = world(&[1, 2]);
    walk(&mut world, 1, 5.0);
    walk(&mut world, 9, 5.0);
    act(&mut world, 2, Action::Leave);
    act(&mut world, 3, Action::Join { user: user(3) });
    act(&mut world, 1, Action::UserUpdate { update: r#"{"id":"user_1","socketId":"s1","mood":1}"#.into() });
    act(&mut world, 1, Action::ObjectUpdate { update: r#"{"id":"a","version":4,"colour":"blue"}"#.into() });
    act(&mut world, 1, Action::ObjectUpdate { update: r#"{"id":"none","version":4}"#.into() });
    act(&mut world, 1, Action::ObjectDelete { id: "7".into() });
    act(&mut world, 3, Action::ObjectCreate { object: r#"{"id":"b"}"#.into(), version: 1 });
    let (users, objects) = shown(&world);
    assert_eq!(users.len(), 2);
    assert!(users[0].contains(r#""mood":1,"position":{"x":5,"y":1.6,"z":0}"#), "{}", users[0]);
    assert_eq!(users[1], user(3));
    assert_eq!(
        objects,
        [
            r#"{"id":"a","type":"cube","colour":"blue","version":4,"owner":"user_1"}"#,
            r#"{"id":"b","version":1,"owner":"user_3"}"#
        ]
    );
}

#[test]
fn a_room_that_is_opened_anew_has_these_objects_and_no_others() {
    let mut world = world(&[1]);
    let before = shown(&world);
    let b = r#"{"id":"b","version":2,"owner":"user_2"}"#;
    for wrong in ["", r#"[{"id":1}]"#] {
        world.apply(&Moment { at_ms: 1, what: What::Objects(wrong.into()) });
        assert_eq!(shown(&world), before);
    }
    world.apply(&Moment { at_ms: 1, what: What::Objects(format!("[{b}]")) });
    assert_eq!(shown(&world), (vec![user(1)], vec![b.to_owned()]));
}

#[test]
fn the_difference_leads_from_one_state_to_the_other() {
    let old = world(&[1, 2, 4]);
    let mut new = world(&[1, 3, 4]);
    walk(&mut new, 1, 8.0);
    act(&mut new, 4, Action::UserUpdate { update: r#"{"id":"user_4","socketId":"s4","mood":1}"#.into() });
    act(&mut new, 1, Action::ObjectUpdate { update: r#"{"id":"a","version":9,"size":2}"#.into() });
    act(&mut new, 1, Action::ObjectDelete { id: "7".into() });
    act(&mut new, 3, Action::ObjectCreate { object: r#"{"id":"b"}"#.into(), version: 1 });
    let steps = difference(&old, &new);
    assert_eq!(
        steps,
        [
            Step::Leave { member: MemberId(2), who: who(2) },
            Step::ObjectDelete { id: "7".into() },
            Step::Move { member: MemberId(1), who: who(1), pose: moved(8.0) },
            Step::Join { member: MemberId(3), who: who(3), user: user(3), pose: moved(3.0) },
            Step::UserUpdate {
                member: MemberId(4),
                who: who(4),
                update: r#"{"id":"user_4","socketId":"s4","mood":1}"#.into()
            },
            Step::ObjectUpdate { id: r#""a""#.into(), update: r#"{"id":"a","version":9,"size":2}"#.into() },
            Step::ObjectCreate {
                id: r#""b""#.into(),
                object: r#"{"id":"b"}"#.into(),
                version: 1,
                owner: "user_3".into()
            },
        ]
    );
    assert_eq!(shown(&after(&old, &steps)), shown(&new));
    let back = difference(&new, &old);
    assert_eq!(shown(&after(&new, &back)), shown(&old), "what an update cannot take away is made anew");
    assert_eq!(difference(&new, &new), []);
}

#[test]
fn a_number_that_is_somebody_else_now_is_somebody_else() {
    let old = world(&[1]);
    let mut new = world(&[]);
    let action = Action::Join { user: user(5) };
    let what = What::Event { member: MemberId(1), who: who(5), action };
    new.apply(&Moment { at_ms: 1, what });
    let (member, pose) = (MemberId(1), moved(5.0));
    assert_eq!(
        difference(&old, &new),
        [Step::Leave { member, who: who(1) }, Step::Join { member, who: who(5), user: user(5), pose }]
    );
}
