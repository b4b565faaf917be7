package dev.toolkit.trainer.store

import dev.toolkit.trainer.R
import dev.toolkit.trainer.Words

/** Names of runs, bundles and data: the rule of toolkit/device/layout.py, so that a name never leads out of its folder. */
object Names {
    private val pattern = Regex("[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

    fun isValid(name: String): Boolean =
        pattern.matches(name) && !name.endsWith(".new") && !name.endsWith(".part")

    /** @throws AppException for a name that is not valid; [what] is the word for what it should name */
    fun check(name: String?, what: Int): String {
        if (name != null && isValid(name)) return name
        val shown = name?.take(40)?.filter { it.isLetterOrDigit() || it in " ._-/" } ?: ""
        throw AppException(
            Words.of(R.string.bad_name, shown, Words.of(what)),
            field = "name",
        )
    }

    /** The first of base, base-2, base-3 ... that is not taken. */
    fun free(base: String, taken: (String) -> Boolean): String {
        if (!taken(base)) return base
        return generateSequence(2) { it + 1 }.map { "${base.take(58)}-$it" }.first { !taken(it) }
    }
}

/** Something the user can do something about; the message is shown as it is. */
class AppException(
    message: String, cause: Throwable? = null,
    /** The option or "name" that it is about, where a form has a field for it. */
    val field: String = "",
    /** The active run that stands in the way, where one does. */
    val blocker: String? = null,
) : Exception(message, cause)
