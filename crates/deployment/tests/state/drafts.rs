//! Templates on their way, which any process on the state may be asked for.

use std::time::Duration;

use coderctl_deployment::{
    model::{Preset, TemplateDraft, TemplateFile, Timestamp},
    store::{DRAFTS_KEPT, MOST_DRAFTS, Store},
};
use uuid::Uuid;

use crate::{
    backend::{Backend, on_each},
    world::{World, at},
};

fn file(created_by: Uuid, created_at: Timestamp) -> TemplateFile {
    TemplateFile { id: Uuid::new_v4(), source: "[[agents]]".to_owned(), created_by, created_at }
}

fn draft(world: &World, template_id: Option<Uuid>, created_at: Timestamp) -> TemplateDraft {
    TemplateDraft {
        id: Uuid::new_v4(),
        template_id,
        name: "second".to_owned(),
        source: "no template".to_owned(),
        created_by: world.alice,
        created_at,
    }
}

on_each! {
    async fn are_their_makers(backend: &Backend) {
        let [one, two] = backend.replicas(2).await.try_into().unwrap();
        let world = World::new(&one).await;
        let uploaded = file(world.alice, at(1));
        one.keep_template_file(&uploaded).await.unwrap();
        let found = two.template_file(uploaded.id, world.alice, at(2)).await.unwrap();
        assert_eq!(found, Some(uploaded.clone()));
        assert_eq!(two.template_file(uploaded.id, world.bob, at(2)).await.unwrap(), None);
        assert_eq!(two.template_file(Uuid::new_v4(), world.alice, at(2)).await.unwrap(), None);
        for template in [None, Some(world.template.id)] {
            let made = draft(&world, template, at(1));
            one.keep_template_draft(&made).await.unwrap();
            let found = two.template_draft(made.id, world.alice, at(2)).await.unwrap();
            assert_eq!(found, Some(made.clone()));
            assert_eq!(two.template_draft(made.id, world.bob, at(2)).await.unwrap(), None);
        }
    }

    async fn are_forgotten(backend: &Backend) {
        let store = &backend.store;
        let world = World::new(store).await;
        let there = async |file: &TemplateFile, now| {
            store.template_file(file.id, world.alice, now).await.unwrap().is_some()
        };
        let first = file(world.alice, at(1));
        store.keep_template_file(&first).await.unwrap();
        let end = at(1).plus(DRAFTS_KEPT);
        assert!(there(&first, end.minus(Duration::from_secs(1))).await);
        assert!(!there(&first, end).await, "it is not looked for any more");
        for second in 2..=u64::try_from(MOST_DRAFTS).unwrap() {
            store.keep_template_file(&file(world.bob, at(second))).await.unwrap();
        }
        assert!(there(&first, at(100)).await);
        store.keep_template_file(&file(world.bob, at(101))).await.unwrap();
        assert!(!there(&first, at(101)).await, "the oldest made room");
    }

    async fn become_a_version(backend: &Backend) {
        let store: &Store = &backend.store;
        let world = World::new(store).await;
        let made = draft(&world, Some(world.template.id), at(1));
        store.keep_template_draft(&made).await.unwrap();
        let version = made.clone().into_version(world.template.id);
        let none: &[Preset] = &[];
        store.add_template_version(&version, none, at(2)).await.unwrap();
        assert_eq!(store.template_draft(made.id, world.alice, at(2)).await.unwrap(), None);
        assert_eq!(store.template_version(made.id).await.unwrap(), version);
    }
}
