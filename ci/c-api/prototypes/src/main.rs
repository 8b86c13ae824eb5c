//! Reads the sources of the C library, and writes their exports as C. The C compiler compares them with the header. A
//! function that is declared twice in different ways is an error. Static assertions check the members of each structure
//! and the values of each constant.
//!
//!     prototypes c/src/*.rs >prototypes.c
//!
//! Unknown syntax is an error, so that everything is checked.

use std::{collections::BTreeMap, fs, process::ExitCode};

use quote::ToTokens;
use syn::{
    BinOp, Expr, Fields, FnArg, GenericArgument, Ident, Item, ItemFn, ItemStruct, Lit, PathArguments,
    PointerMutability, ReturnType, Token, Type, UnOp,
    parse::{Parse, ParseStream},
};

type Result<T> = std::result::Result<T, String>;

/// Returns the C name of a Rust type.
fn name(rust: &str) -> Result<&str> {
    Ok(match rust {
        "u8" => "uint8_t",
        "u16" => "uint16_t",
        "u32" => "uint32_t",
        "u64" => "uint64_t",
        "i32" => "int32_t",
        "usize" => "size_t",
        "bool" => "bool",
        "c_char" => "char",
        "c_void" => "void",
        ours if ours.starts_with("azure_dps_") => ours,
        other => return Err(format!("no C type for {other}")),
    })
}

/// Types that the sources name, but C does not.
type Aliases<'s> = BTreeMap<String, &'s Type>;

/// Declares a Rust type in C. `inner` is the name, with the parts of the declarator around it.
fn declare(aliases: &Aliases<'_>, ty: &Type, inner: &str) -> Result<String> {
    match ty {
        Type::Path(path) => {
            let last = path.path.segments.last().ok_or("an empty path")?;
            if last.ident == "Option"
                && let PathArguments::AngleBracketed(arguments) = &last.arguments
                && let Some(GenericArgument::Type(function)) = arguments.args.first()
            {
                let function = match function {
                    Type::Path(path) => path.path.get_ident().and_then(|name| aliases.get(&name.to_string()).copied()),
                    other => Some(other),
                };
                return match function {
                    Some(function @ Type::FnPtr(_)) => declare(aliases, function, inner),
                    _ => Err(format!("no pointer to a function: {}", ty.to_token_stream())),
                };
            }
            Ok(format!("{} {inner}", name(&last.ident.to_string())?))
        }
        Type::Ptr(pointer) => {
            // `const` belongs to the pointed-at type.
            let constant = if matches!(pointer.mutability, PointerMutability::Mut(_)) { "" } else { "const " };
            match &*pointer.elem {
                Type::Ptr(_) if constant.is_empty() => declare(aliases, &pointer.elem, &format!("*{inner}")),
                Type::Ptr(_) => declare(aliases, &pointer.elem, &format!("*const {inner}")),
                Type::Array(_) => Err(format!("a pointer to an array: {}", ty.to_token_stream())),
                elem => Ok(format!("{constant}{}", declare(aliases, elem, &format!("*{inner}"))?)),
            }
        }
        Type::Array(array) => declare(aliases, &array.elem, &format!("{inner}[{}]", expression(&array.len)?)),
        Type::FnPtr(function) => {
            let inputs: Vec<_> =
                function.inputs.iter().map(|input| declare(aliases, &input.ty, "")).collect::<Result<_>>()?;
            returning(aliases, &function.output, &format!("(*{inner})({})", parameters(&inputs)))
        }
        other => Err(format!("no C type for: {}", other.to_token_stream())),
    }
}

fn parameters(inputs: &[String]) -> String {
    if inputs.is_empty() { "void".into() } else { inputs.join(", ") }
}

fn returning(aliases: &Aliases<'_>, output: &ReturnType, inner: &str) -> Result<String> {
    match output {
        ReturnType::Default => Ok(format!("void {inner}")),
        ReturnType::Type(_, ty) => declare(aliases, ty, inner),
    }
}

/// Returns a constant expression, in parentheses.
fn expression(expr: &Expr) -> Result<String> {
    match expr {
        Expr::Lit(literal) => match &literal.lit {
            Lit::Int(number) => Ok(number.base10_digits().into()),
            other => Err(format!("not a number: {}", other.to_token_stream())),
        },
        Expr::Unary(unary) if matches!(unary.op, UnOp::Neg(_)) => Ok(format!("(-{})", expression(&unary.expr)?)),
        Expr::Binary(binary) if matches!(binary.op, BinOp::Add(_) | BinOp::Mul(_)) => {
            let (left, right) = (expression(&binary.left)?, expression(&binary.right)?);
            Ok(format!("({left} {} {right})", binary.op.to_token_stream()))
        }
        Expr::If(choice) => {
            let condition = choice.cond.to_token_stream().to_string().replace(' ', "");
            let Some((_, otherwise)) = &choice.else_branch else { return Err("an if without else".into()) };
            if !["cfg!(target_pointer_width=\"64\")", "size_of::<usize>()>4"].contains(&&*condition) {
                return Err(format!("no C condition for: {condition}"));
            }
            let then = block(&choice.then_branch)?;
            Ok(format!("(UINTPTR_MAX > 0xFFFFFFFFu ? {then} : {})", expression(otherwise)?))
        }
        Expr::Block(inner) => block(&inner.block),
        Expr::Path(path) => Ok(path.path.segments.last().ok_or("an empty path")?.ident.to_string()),
        other => Err(format!("no C expression for: {}", other.to_token_stream())),
    }
}

fn block(block: &syn::Block) -> Result<String> {
    match &*block.stmts {
        [syn::Stmt::Expr(inner, None)] => expression(inner),
        _ => Err(format!("not one expression: {}", block.to_token_stream())),
    }
}

fn has(attributes: &[syn::Attribute], text: &str) -> bool {
    attributes.iter().any(|attribute| attribute.meta.to_token_stream().to_string().replace(' ', "") == text)
}

fn function(aliases: &Aliases<'_>, function: &ItemFn) -> Result<String> {
    if function.sig.abi.as_ref().is_none_or(|abi| abi.name.as_ref().is_none_or(|name| name.value() != "C")) {
        return Err(format!("{} is not extern \"C\"", function.sig.ident));
    }
    let inputs: Vec<_> = function
        .sig
        .inputs
        .iter()
        .map(|input| match input {
            FnArg::Typed(input) => declare(aliases, &input.ty, ""),
            FnArg::Receiver(_) => Err("self".into()),
        })
        .collect::<Result<_>>()?;
    let inner = format!("{}({})", function.sig.ident, parameters(&inputs));
    Ok(format!("{};\n", returning(aliases, &function.sig.output, &inner)?))
}

fn structure(aliases: &Aliases<'_>, structure: &ItemStruct) -> Result<String> {
    let Fields::Named(fields) = &structure.fields else { return Err("no named fields".into()) };
    let (of_c, of_rust) = (structure.ident.to_string(), format!("struct rust_{}", structure.ident));
    let (mut members, mut checks, mut all) = (String::new(), String::new(), Vec::new());
    for field in &fields.named {
        let member = field.ident.as_ref().ok_or("no name")?.to_string();
        if member.starts_with('_') {
            return Err(format!("{of_c}.{member}: padding has no name in C"));
        }
        members += &format!("    {};\n", declare(aliases, &field.ty, &member)?);
        checks += &format!(
            "_Static_assert(offsetof({of_c}, {member}) == offsetof({of_rust}, {member}), \"offset of {of_c}.{member}\");\n\
             _Static_assert(_Generic(&(({of_c} *)0)->{member}, __typeof__(&(({of_rust} *)0)->{member}): 1, default: 0), \
             \"type of {of_c}.{member}\");\n"
        );
        // C cannot initialize an array with an array.
        all.push(if matches!(field.ty, Type::Array(_)) { "{0}".into() } else { format!("rust.{member}") });
    }
    Ok(format!(
        "{of_rust} {{\n{members}}};\n\
         _Static_assert(sizeof({of_c}) == sizeof({of_rust}), \"size of {of_c}\");\n\
         _Static_assert(_Alignof({of_c}) == _Alignof({of_rust}), \"alignment of {of_c}\");\n{checks}\
         /* A member more in C is a missing initializer. */\n\
         {of_c} c_{of_c}({of_rust} rust);\n\
         {of_c} c_{of_c}({of_rust} rust)\n{{\n    {of_c} c = {{{}}};\n    (void)rust;\n    return c;\n}}\n",
        all.join(", ")
    ))
}

fn constant(name: &Ident, value: &Expr) -> Result<String> {
    Ok(format!("_Static_assert({name} == {}, \"value of {name}\");\n", expression(value)?))
}

/// The arguments of a macro that defines constants: `NAME = VALUE;` for each.
struct Constants(Vec<(Ident, Expr)>);

impl Parse for Constants {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        let mut found = Vec::new();
        while !input.is_empty() {
            let name = input.parse()?;
            input.parse::<Token![=]>()?;
            found.push((name, input.parse()?));
            input.parse::<Token![;]>()?;
        }
        Ok(Self(found))
    }
}

fn item(aliases: &Aliases<'_>, item: &Item) -> Result<String> {
    match item {
        Item::Fn(exported) if has(&exported.attrs, "unsafe(no_mangle)") => function(aliases, exported),
        Item::Struct(shared) if has(&shared.attrs, "repr(C)") && shared.ident.to_string().starts_with("azure_dps_") => {
            structure(aliases, shared)
        }
        Item::Const(value) if value.ident.to_string().starts_with("AZURE_DPS_") => constant(&value.ident, &value.expr),
        Item::Macro(call)
            if call.ident.is_none() && call.mac.tokens.to_string().to_uppercase().contains("AZURE_DPS_") =>
        {
            let Constants(all) = call.mac.parse_body().map_err(|error| format!("cannot read a macro: {error}"))?;
            all.iter().map(|(name, value)| constant(name, value)).collect()
        }
        _ => Ok(String::new()),
    }
}

fn main() -> ExitCode {
    println!("#include <stddef.h>\n#include \"azure_dps.h\"\n");
    let sources: Vec<_> = std::env::args()
        .skip(1)
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
            let file = syn::parse_file(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
            (path, file)
        })
        .collect();
    let named = sources.iter().flat_map(|(_, file)| &file.items).filter_map(|item| match item {
        Item::Type(alias) => Some((alias.ident.to_string(), &*alias.ty)),
        _ => None,
    });
    let aliases: Aliases<'_> = named.collect();
    let mut code = ExitCode::SUCCESS;
    for (path, file) in &sources {
        println!("/* {path} */");
        for exported in &file.items {
            match item(&aliases, exported) {
                Ok(text) => print!("{text}"),
                Err(why) => {
                    eprintln!("{path}: {why}");
                    code = ExitCode::FAILURE;
                }
            }
        }
    }
    code
}
