package dev.toolkit.trainer.ui

import android.content.Context
import android.os.Bundle
import android.view.View
import android.widget.Spinner
import dev.toolkit.trainer.R
import dev.toolkit.trainer.chats.Choices
import dev.toolkit.trainer.chats.Format
import dev.toolkit.trainer.chats.RowRefused
import dev.toolkit.trainer.chats.Speaker
import dev.toolkit.trainer.ui.Screen.Companion.fill
import dev.toolkit.trainer.ui.Screen.Companion.visible

/** What a picked file is, and who speaks in it or which columns it has. */
class Inspected(val format: Format, val speakers: List<Speaker>, val columns: List<String>) {
    /** What it is, in words; null for plain text. */
    fun words(context: Context): String? = when (format) {
        Format.TELEGRAM -> context.getString(R.string.file_telegram)
        Format.WHATSAPP -> context.getString(R.string.file_whatsapp)
        Format.JSON -> context.getString(R.string.file_json)
        Format.TABLE -> context.getString(R.string.file_table)
        Format.TEXT -> null
    }

    companion object {
        /** Of what could not be looked at. */
        val NOTHING = Inspected(Format.TEXT, emptyList(), emptyList())

        fun of(name: String, text: String): Inspected = Format.of(name, text).let { format ->
            try {
                Inspected(format, format.speakers(name, text), format.columns(name, text))
            } catch (_: RowRefused) {
                // What is wrong is said when it is read.
                Inspected(format, emptyList(), emptyList())
            }
        }
    }
}

/**
 * What is to be said of chats and tables among the picked files: who the user is, and which columns are learned. Nobody is taken for
 * the user before that is said: a wrong guess would have the model learn to write as somebody else.
 *
 * @param changed called when the user has chosen something
 */
class FileChoices(private val root: Screen, saved: Bundle?, private val changed: () -> Unit) {
    private var people = emptyList<Speaker>()
    private var columns = emptyList<String>()

    /** Whether the names of the columns say what they are. */
    private var isNamed = false
    private var wanted = FIELDS.associateWith { saved?.getString(it) }

    /** Whether enough was said to read the files. */
    val isComplete: Boolean get() = people.isEmpty() || choices().me != null

    fun save(state: Bundle) {
        remember()
        for ((field, value) in wanted) state.putString(field, value)
    }

    private fun remember() {
        val now = choices()
        wanted = wanted + FIELDS.zip(listOf(now.me, now.question, now.answer)).filter { (field, value) -> value != null || field == ME && people.isNotEmpty() }
    }

    fun show(files: Collection<Inspected>) {
        remember()
        people = files.flatMap { it.speakers }.groupBy { it.id }.map { (id, all) -> Speaker(id, all[0].name, all.sumOf { it.messages }) }
            .sortedByDescending { it.messages }
        columns = files.flatMap { it.columns }.distinct()
        isNamed = Format.known(columns)
        root.requireViewById<View>(R.id.chat_box).visible(people.isNotEmpty())
        root.requireViewById<View>(R.id.table_box).visible(columns.isNotEmpty())
        val shared = people.groupingBy { it.name }.eachCount()
        val names = people.map {
            val messages = root.resources.getQuantityString(R.plurals.messages, it.messages, Numbers.count(it.messages.toLong()))
            (if (shared[it.name] == 1) it.name else "${it.name} [${it.id}]") + ", " + messages
        }
        choice(R.id.me).fill(listOf(root.getString(R.string.me_choose)) + names, 1 + people.indexOfFirst { it.id == wanted[ME] }) { changed() }
        val answers = (if (isNamed) listOf(root.getString(R.string.column_named)) else emptyList()) + columns
        val question = wanted[QUESTION] ?: columns.firstOrNull()?.takeIf { columns.size > 1 }
        choice(R.id.question).fill(listOf(root.getString(R.string.column_none)) + columns, 1 + columns.indexOf(question)) {}
        choice(R.id.answer).fill(answers, answers.indexOf(wanted[ANSWER] ?: if (isNamed) answers[0] else columns.lastOrNull())) { showQuestion(it) }
        showQuestion(choice(R.id.answer).selectedItemPosition)
    }

    private fun showQuestion(answer: Int) {
        val asks = !isNamed || answer > 0
        for (id in listOf(R.id.question, R.id.question_label)) root.requireViewById<View>(id).visible(asks)
    }

    fun choices(): Choices {
        val named = if (isNamed) 1 else 0
        val answer = columns.getOrNull(choice(R.id.answer).selectedItemPosition - named)
        val question = columns.getOrNull(choice(R.id.question).selectedItemPosition - 1)
        return Choices(people.getOrNull(choice(R.id.me).selectedItemPosition - 1)?.id, question.takeIf { answer != null && it != answer }, answer)
    }

    private fun choice(id: Int): Spinner = root.requireViewById(id)

    private companion object {
        const val ME = "me"
        const val QUESTION = "question"
        const val ANSWER = "answer"
        val FIELDS = listOf(ME, QUESTION, ANSWER)
    }
}
