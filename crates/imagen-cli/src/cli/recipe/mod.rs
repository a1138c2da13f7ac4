//! `imagen recipe`: recipes without writing one. `new` proposes one for a set, `keys` explains what one may say.

mod keys;
mod new;

verbs! {
    /// Write a recipe for a set of pictures, or explain what a recipe may say
    RecipeVerb {
        New(new::New),
        Keys(keys::Keys),
    }
}
