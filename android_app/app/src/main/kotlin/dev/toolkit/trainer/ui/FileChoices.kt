package dev.toolkit.trainer.ui

import android.content.Context
import android.view.View
import android.widget.Spinner
import dev.toolkit.trainer.R
import dev.toolkit.trainer.chats.Choices
import dev.toolkit.trainer.chats.Format
import dev.toolkit.trainer.chats.RowRefused
import dev.toolkit.trainer.chats.Speaker
import dev.toolkit.trainer.ui.Screen.Companion.fill
import dev.toolkit.trainer.ui.Screen.Companion.visible

/** What a picked file is, and who speaks in it or which columns it has; or why it cannot be learned. */
class Inspected(val format: Format, val speakers: List<Speaker>, val columns: List<String>, val problem: String? = null, private val inside: String? = null) {
    /** Whether the names of the columns say what they are. */
    val isNamed = Format.known(columns)

    /** What it is, in words; null for plain text. */
    fun words(context: Context): String? = when (format) {
        Format.TELEGRAM -> context.getString(R.string.file_telegram)
        Format.WHATSAPP -> if (inside == null) context.getString(R.string.file_whatsapp) else context.getString(R.string.file_whatsapp_zip, inside)
        Format.JSON -> context.getString(R.string.file_json)
        Format.TABLE -> context.getString(R.string.file_table)
        Format.TEXT -> null
    }

    companion object {
        /** Of what could not be looked at. */
        fun failed(problem: String) = Inspected(Format.TEXT, emptyList(), emptyList(), problem)

        fun of(content: Content): Inspected = try {
            val format = Format.of(content.name, content.text)
            Inspected(format, format.speakers(content.name, content.text), format.columns(content.name, content.text), inside = content.name.takeIf { content.isInZip })
        } catch (error: RowRefused) {
            failed(error.message.orEmpty())
        }
    }
}

/**
 * What was said of one file; null where nothing was, and [NONE] where the column that is learned answers no other. Whoever [me] is was
 * said here, perhaps that it is nobody, if it [isOwn]; else it comes from other chats.
 */
class Answers(var me: String? = null, var answer: String? = null, var question: String? = null, var isOwn: Boolean = false) {
    /** Whether enough was said to read a file that [found] tells of. */
    fun areComplete(found: Inspected) = when {
        found.speakers.isNotEmpty() -> me != null
        found.columns.isEmpty() -> true
        answer == null -> found.isNamed
        else -> question != null
    }

    fun choices() = Choices(me, question?.takeIf { it != NONE && answer != null }, answer)

    fun save() = arrayOf(me, answer, question, OWN.takeIf { isOwn })

    companion object {
        /** No column is called so: a file with that character is no text. */
        const val NONE = "\u0000"
        private const val OWN = "own"

        fun restored(saved: Array<String?>?) = if (saved == null) Answers() else Answers(saved[0], saved[1], saved[2], saved[3] != null)
    }
}

/**
 * What is to be said of a chat or a table among the picked files, in its row: who the user is, and which columns are learned. Nobody is
 * taken for the user before that is said, and no column for an answer: a wrong guess would have the model learn something else.
 *
 * @param changed called when the user has chosen something
 */
class FileChoices(private val row: View, private val answers: Answers, private val changed: () -> Unit) {
    fun show(found: Inspected) {
        row.requireViewById<View>(R.id.chat_box).visible(found.speakers.isNotEmpty())
        row.requireViewById<View>(R.id.table_box).visible(found.columns.isNotEmpty())
        showPeople(found.speakers)
        // Of a single column there is nothing to choose.
        if (found.columns.size == 1 && !found.isNamed && answers.answer == null) {
            answers.answer = found.columns[0]
            answers.question = Answers.NONE
        }
        val columns = found.columns
        choose(R.id.answer, if (found.isNamed) R.string.column_named else R.string.column_choose, columns, columns, answers.answer) {
            answers.answer = it
            if (answers.question == it) answers.question = null
            showQuestion(columns)
        }
        showQuestion(columns)
    }

    private fun showPeople(people: List<Speaker>) {
        val shared = people.groupingBy { it.name }.eachCount()
        val names = people.map {
            val messages = row.resources.getQuantityString(R.plurals.messages, it.messages, Numbers.count(it.messages.toLong()))
            (if (shared[it.name] == 1) it.name else "${it.name} [${it.id}]") + ", " + messages
        }
        choose(R.id.me, R.string.me_choose, names, people.map { it.id }, answers.me) {
            answers.me = it
            answers.isOwn = true
        }
    }

    private fun showQuestion(columns: List<String>) {
        val others = columns - setOfNotNull(answers.answer)
        for (id in listOf(R.id.question, R.id.question_label)) row.requireViewById<View>(id).visible(answers.answer != null)
        choose(
            R.id.question, R.string.column_choose, listOf(row.context.getString(R.string.column_none)) + others, listOf(Answers.NONE) + others,
            answers.question,
        ) { answers.question = it }
    }

    /** A drop-down of [values], called [labels], below a line for none of them. */
    private fun choose(id: Int, none: Int, labels: List<String>, values: List<String>, chosen: String?, keep: (String?) -> Unit) {
        var last = values.indexOf(chosen)
        row.requireViewById<Spinner>(id).fill(listOf(row.context.getString(none)) + labels, 1 + last) {
            if (it - 1 == last) return@fill
            last = it - 1
            keep(values.getOrNull(last))
            changed()
        }
    }
}
