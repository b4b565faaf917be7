package dev.toolkit.trainer.chats

/** What kinds of files there are; the first that recognizes a file decides, and plain text takes every file. */
enum class Format {
    TELEGRAM, JSON, WHATSAPP, TABLE, TEXT;

    val isChat get() = this == TELEGRAM || this == WHATSAPP

    private fun recognizes(name: String, text: String) = when (this) {
        TELEGRAM -> Telegram.recognizes(text)
        JSON -> JsonFile.recognizes(name, text)
        WHATSAPP -> WhatsApp.recognizes(text)
        TABLE -> TableFile.recognizes(name, text)
        TEXT -> true
    }

    /**
     * The documents that a file holds.
     *
     * @throws RowRefused something in it is no document
     */
    fun read(name: String, text: String, choices: Choices): Sequence<TextDocument> = when (this) {
        TELEGRAM, WHATSAPP -> Conversations.documents(name, said(name, text), choices.me)
        JSON -> JsonFile.read(name, text)
        TABLE -> TableFile.read(name, text, choices)
        TEXT -> sequenceOf(TextDocument(name, text = text))
    }

    private fun said(name: String, text: String) = if (this == TELEGRAM) Telegram.read(name, text) else WhatsApp.read(name, text)

    /** Who speaks in a chat's export. */
    fun speakers(name: String, text: String): List<Speaker> = if (isChat) Conversations.speakers(said(name, text)) else emptyList()

    /** The columns of a table. */
    fun columns(name: String, text: String): List<String> = if (this == TABLE) TableFile.columns(name, text) else emptyList()

    companion object {
        /** Whether columns of these names say themselves what they are. */
        fun known(columns: List<String>) = Records.isDocument(columns.map(String::lowercase))

        fun of(name: String, text: String): Format = entries.first { it.recognizes(name, text) }
    }
}
