package dev.toolkit.trainer.chats

import dev.toolkit.trainer.R

/** What somebody wrote at [at], in seconds of a clock; [speaker] tells people apart, two may have one [name]. */
internal class Said(val where: String, val at: Long, val speaker: String, val name: String, val text: String)

/** Who speaks in a chat, and how often. */
class Speaker(val id: String, val name: String, val messages: Int)

/** Exported chats to documents: whose messages are learned, and where a conversation begins; toolkit/data/formats/conversations.py. */
internal object Conversations {
    /** After so long a silence the next message begins a conversation, in seconds. */
    private const val PAUSE = 6 * 3600L

    fun speakers(chats: List<List<Said>>): List<Speaker> = chats.flatten().groupBy { it.speaker }
        .map { (id, said) -> Speaker(id, said.last().name, said.size) }.sortedByDescending { it.messages }

    /**
     * A document for every conversation: the messages of [me] are the assistant's, all others the user's; several in a row are one, a
     * line each. With more than one other speaker their lines begin with their names. One without an answer has no messages.
     *
     * @throws RowRefused nobody is called so, or several are
     */
    fun documents(name: String, chats: List<List<Said>>, me: String?): Sequence<TextDocument> {
        val people = speakers(chats)
        val own = people.find { it.id == me }?.id
            ?: people.filter { person -> chats.any { chat -> chat.any { it.speaker == person.id && (it.name == me || repaired(it.name) == me) } } }.singleOrNull()?.id
            ?: throw RowRefused(name, R.string.chat_nobody, me.orEmpty())
        return chats.asSequence().flatMap { chat ->
            val named = chat.map { it.speaker }.toSet().minus(own).size > 1
            conversations(chat).map { said -> TextDocument(said[0].where, messages = turns(said, own, named)) }
        }
    }

    private fun conversations(chat: List<Said>): Sequence<List<Said>> = sequence {
        var current = ArrayList<Said>()
        for (said in chat) {
            if (current.isNotEmpty() && said.at - current.last().at >= PAUSE) {
                yield(current)
                current = ArrayList()
            }
            current += said
        }
        if (current.isNotEmpty()) yield(current)
    }

    private fun turns(conversation: List<Said>, me: String, named: Boolean): List<Message> {
        val turns = ArrayList<Pair<String, StringBuilder>>()
        for (said in conversation) {
            val role = if (said.speaker == me) "assistant" else "user"
            val text = if (named && role == "user") "${said.name}: ${said.text}" else said.text
            if (turns.lastOrNull()?.first == role) turns.last().second.append('\n').append(text)
            // What answers nothing is left out.
            else if (turns.isNotEmpty() || role == "user") turns += role to StringBuilder(text)
        }
        return turns.map { (role, text) -> Records.message(role, repaired(text.toString())) }
    }
}
