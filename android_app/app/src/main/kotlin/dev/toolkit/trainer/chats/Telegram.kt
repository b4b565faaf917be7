package dev.toolkit.trainer.chats

import dev.toolkit.trainer.R
import java.time.DateTimeException
import java.time.LocalDateTime
import java.time.ZoneOffset
import org.json.JSONArray
import org.json.JSONException
import org.json.JSONObject

/** result.json as Telegram Desktop exports it: one chat, or all of an account; toolkit/data/formats/telegram.py. */
internal object Telegram {
    private val CHAT = Regex(
        "\"type\"\\s*:\\s*\"(personal_chat|bot_chat|saved_messages|(private|public)_(group|supergroup|channel))\"\\s*,\\s*\"id\"\\s*:\\s*-?\\d+\\s*,\\s*\"messages\"",
    )
    private val ACCOUNT = Regex("\\s*\\{\\s*\"about\"\\s*:\\s*\"[^\"]*Telegram")
    private const val HEAD = 65_536
    private const val SHOWN = 80

    fun recognizes(text: String): Boolean {
        val head = text.take(HEAD)
        return head.trimStart().startsWith("{") && (ACCOUNT.matchAt(head, 0) != null || CHAT.containsMatchIn(head))
    }

    /** @throws RowRefused it is not as Telegram exports it */
    fun read(name: String, text: String): List<List<Said>> = try {
        val export = JSONObject(text)
        fun of(list: String) = export.optJSONObject(list)?.getJSONArray("list")?.let(::objects).orEmpty()
        val chats = if (export.has("chats")) of("chats") else listOf(export)
        (chats + of("left_chats")).map { chat -> objects(chat.getJSONArray("messages")).mapNotNull { said(name, it) } }
    } catch (error: JSONException) {
        // Android's message may have the whole file behind it.
        throw RowRefused(name, R.string.chat_telegram, error.message.orEmpty().take(SHOWN))
    } catch (_: StackOverflowError) {
        throw RowRefused(name, R.string.chat_telegram, "")
    } catch (error: DateTimeException) {
        throw RowRefused(name, R.string.chat_telegram, error.message.orEmpty())
    }

    private fun said(name: String, entry: JSONObject): Said? {
        val from = entry.opt("from") as? String
        if (entry.getString("type") != "message" || entry.has("forwarded_from") || from.isNullOrEmpty()) return null
        val text = text(entry.get("text")).trim { it.isWhitespace() || it == '\u0085' }
        if (text.isEmpty()) return null
        val at = LocalDateTime.parse(entry.getString("date").take(SECONDS)).toEpochSecond(ZoneOffset.UTC)
        // Exports of 2020 and before have only names.
        return Said("$name[${entry.opt("id")}]", at, entry.opt("from_id")?.toString() ?: from, from, text)
    }

    /** A text, which may be a list of texts and of entities such as links. */
    private fun text(value: Any): String =
        if (value is JSONArray) (0 until value.length()).joinToString("") { i -> value[i].let { if (it is JSONObject) it.getString("text") else it.toString() } }
        else value.toString()

    private fun objects(list: JSONArray) = List(list.length()) { list.getJSONObject(it) }

    private const val SECONDS = 19
}
