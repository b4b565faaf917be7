package dev.toolkit.trainer.chats

import dev.toolkit.trainer.R
import java.time.DateTimeException
import java.time.LocalDateTime
import java.time.ZoneOffset

/** WhatsApp's exported chats, as Android and iOS write them in the formats of many languages: toolkit/data/formats/whatsapp.py. */
internal object WhatsApp {
    private const val SPACE = "[\\s\\u0085\\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]"
    private const val MORNING = "上午|午前|오전"
    private const val EVENING = "下午|午後|오후"
    private const val TIME = "(\\d{1,4}([./-])$SPACE?\\d{1,2}\\2$SPACE?\\d{1,4})\\.?,?$SPACE+($MORNING|$EVENING)?$SPACE?" +
        "(\\d{1,2})[:.](\\d{2})(?:[:.](\\d{2}))?(?:$SPACE?([ap])\\.?$SPACE?m\\.?)?"
    private val OPTIONS = setOf(RegexOption.IGNORE_CASE, RegexOption.DOT_MATCHES_ALL)
    private val HEADS = listOf("\\[$TIME\\]$SPACE(.*)", "$TIME$SPACE-$SPACE(.*)").map { Regex("[\\u200e\\u200f]*$it", OPTIONS) }
    private val SPEAKER = Regex("[\\u200e\\u200f\\u202a]*([^:]{1,60}?)\\u202c?:$SPACE(.*)", RegexOption.DOT_MATCHES_ALL)

    /** What may end a quotation, by what begins it; U+2019 begins none, being an apostrophe, too. */
    private val CLOSING = mapOf(
        '"' to "\"", '\uff02' to "\uff02", '\u201c' to "\u201c\u201d", '\u201d' to "\u201d", '\u201e' to "\u201c\u201d", '\u201f' to "\u201d",
        '\u2018' to "\u2019", '\u201a' to "\u2018\u2019", '«' to "»", '»' to "«", '\u2039' to "\u203a", '「' to "」", '『' to "』",
    )
    private const val HEAD = 65_536
    private const val LINES = 200
    private const val FEWEST = 2
    private const val LIKELY = 0.2

    private class Entry(val line: Int, val date: List<Int>, val clock: List<Int>, val rest: StringBuilder)

    /** When the first line and enough others begin with date and time. */
    fun recognizes(text: String): Boolean {
        val lines = text.take(HEAD).split('\n').map { it.trim('\r', '\u200e', '\u200f') }.filter(String::isNotBlank).take(LINES)
        val heads = lines.count { head(it) != null }
        return heads >= FEWEST && heads >= LIKELY * lines.size && head(lines[0]) != null
    }

    private fun head(line: String): MatchResult? = HEADS.firstNotNullOfOrNull { it.matchEntire(line) }

    /** @throws RowRefused the dates are of no order of day, month and year */
    fun read(name: String, text: String): List<List<Said>> {
        val entries = entries(text)
        val times = times(name, entries)
        return listOf(
            entries.zip(times).mapNotNull { (entry, at) ->
                val (speaker, words) = SPEAKER.matchEntire(entry.rest)?.destructured ?: return@mapNotNull null
                val written = if (inQuotation(speaker)) "" else written(words)
                val who = speaker.trim(::isSpace).removePrefix("~").trim('\u200e', '\u202f', '\u00a0', ' ')
                if (written.isEmpty()) null else Said("$name:${entry.line}", at, who, who, written)
            },
        )
    }

    /** Whether a name ends within quotes: where somebody changed the subject to “a: b” nobody speaks. */
    private fun inQuotation(name: String): Boolean {
        var closing = ""
        for ((before, mark) in " $name".zipWithNext()) {
            if (closing.isNotEmpty()) closing = if (mark in closing) "" else closing
            else if (mark != '\u2018' || !before.isLetterOrDigit()) closing = CLOSING[mark].orEmpty() // Within a word it is an apostrophe.
        }
        return closing.isNotEmpty()
    }

    /** What a speaker wrote of a message, "" where all of it is WhatsApp's own. */
    private fun written(text: String): String {
        val lines = WhatsAppTexts.withoutEdited(text).split('\n').filter { !it.startsWith('\u200e') }
        val own = if (lines.isNotEmpty() && WhatsAppTexts.isOwn(lines[0])) lines.drop(1) else lines
        return own.joinToString("\n").trim('\u200e', '\u200f', ' ', '\n')
    }

    /** What each head begins, with the lines that follow it; lines before are left out. */
    private fun entries(text: String): List<Entry> {
        val entries = ArrayList<Entry>()
        for ((index, raw) in text.splitToSequence('\n').withIndex()) {
            val line = raw.trimEnd('\r')
            val head = head(line)
            if (head == null) {
                entries.lastOrNull()?.rest?.append('\n')?.append(line)
                continue
            }
            val parts = head.groupValues
            val date = NUMBER.findAll(parts[1]).map { it.value.toInt() }.toList()
            entries += Entry(index + 1, date, clock(parts), StringBuilder(parts[8]))
        }
        return entries
    }

    private fun clock(parts: List<String>): List<Int> {
        val half = if (parts[3].isNotEmpty()) (if (parts[3] in EVENING.split('|')) "p" else "a") else parts[7].lowercase()
        val hour = parts[4].toInt().let { if (half.isEmpty()) it else it % 12 + if (half == "p") 12 else 0 }
        return listOf(hour, parts[5].toInt(), parts[6].ifEmpty { "0" }.toInt())
    }

    /** When each entry was written, in the order of dates that goes back least often. */
    private fun times(name: String, entries: List<Entry>): List<Long> {
        val orders = listOf("dmy", "mdy", "ymd").mapNotNull { order ->
            try {
                entries.map { time(it, order) }
            } catch (_: DateTimeException) {
                null
            }
        }
        return orders.minByOrNull { times -> times.zipWithNext().count { (earlier, later) -> later < earlier } }
            ?: throw RowRefused(name, R.string.chat_dates)
    }

    private fun time(entry: Entry, order: String): Long {
        fun part(letter: Char) = entry.date[order.indexOf(letter)]
        val year = part('y').let { if (it < 100) it + 2000 else it }
        val (hour, minute, second) = entry.clock
        return LocalDateTime.of(year, part('m'), part('d'), hour, minute, second).toEpochSecond(ZoneOffset.UTC)
    }

    fun isSpace(c: Char) = c.isWhitespace() || c == '\u0085'

    private val NUMBER = Regex("\\d+")
}
