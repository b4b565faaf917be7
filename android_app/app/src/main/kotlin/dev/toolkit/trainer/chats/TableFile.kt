package dev.toolkit.trainer.chats

import dev.toolkit.trainer.R

/** Tables of fields between commas, tabs, semicolons or bars, below a header that names them: toolkit/data/formats/table.py. */
internal object TableFile {
    private val SUFFIXES = listOf(".csv", ".tsv", ".tab")
    private val DELIMITERS = listOf('\t', ',', ';', '|')
    private val NAME = Regex("\"?[A-Za-z_][\\w.-]*( [\\w.-]+){0,2}\"?")
    private const val ROWS = 20

    /** A file with such a suffix, or one whose first line names columns, with rows of as many fields. */
    fun recognizes(name: String, text: String): Boolean {
        if (SUFFIXES.any { name.lowercase().endsWith(it) }) return true
        val first = text.lineSequence().firstOrNull(String::isNotBlank) ?: return false
        return DELIMITERS.any { delimiter ->
            val names = first.trimEnd('\r').split(delimiter)
            names.size > 1 && names.all(NAME::matches) && rows(text, delimiter).take(ROWS).toList().let { rows ->
                rows.size > 1 && rows.all { it.second.size == names.size && it.second[0].isNotBlank() }
            }
        }
    }

    /** The names of the columns, as the header has them. */
    fun columns(name: String, text: String): List<String> = rows(text, delimiter(name, text)).firstOrNull()?.second?.map(String::trim).orEmpty()

    /**
     * What every row is: by the names of the columns, or by those that were chosen.
     *
     * @throws RowRefused a row has another number of fields, or no column is known
     */
    fun read(name: String, text: String, choices: Choices): Sequence<TextDocument> {
        val rows = rows(text, delimiter(name, text)).iterator()
        if (!rows.hasNext()) return emptySequence()
        val header = rows.next().second.map(String::trim)
        val names = header.map(String::lowercase)
        val fields = if (choices.answer == null) names else header.map { if (it == choices.answer) "completion" else if (it == choices.question) "prompt" else "" }
        if (choices.answer != null && "completion" !in fields) throw RowRefused(name, R.string.table_column, choices.answer)
        if (fields.none { it in Records.FIELDS || Records.isNested(it) }) throw RowRefused(name, R.string.table_columns)
        return rows.asSequence().map { (line, row) ->
            if (row.size != names.size) throw RowRefused("$name:$line", R.string.table_fields, row.size, names.size)
            val cells = fields.zip(row).filter { (field, _) -> field in Records.FIELDS || Records.isNested(field) }
            val record = cells.associate { (field, cell) -> field to value(field, cell) }
            // A column alone is a text to go on with.
            if (choices.answer != null && choices.question == null) TextDocument("$name:$line", text = record["completion"] as String)
            else Records.document(record, "$name:$line")
        }
    }

    private fun value(field: String, cell: String): Any? = if (Records.isNested(field)) plainValue(JsonFile.parse(cell)) else repaired(cell)

    /** What stands between the names of the header: what finds most that are known. */
    private fun delimiter(name: String, text: String): Char {
        if (name.lowercase().run { endsWith(".tsv") || endsWith(".tab") }) return '\t'
        val first = text.lineSequence().firstOrNull(String::isNotBlank).orEmpty().trim('\r')
        fun names(delimiter: Char) = first.split(delimiter).map { it.trim(' ', '"').lowercase() }
        return DELIMITERS.maxWith(compareBy({ names(it).count { name -> name in Records.FIELDS || Records.isNested(name) } }, { names(it).size }))
    }

    /** The line that each row begins at, and its fields; quotes are doubled within quotes. Blank lines are left out. */
    private fun rows(text: String, delimiter: Char): Sequence<Pair<Int, List<String>>> = sequence {
        var row = ArrayList<String>()
        val field = StringBuilder()
        var quoted = false
        var begun = false
        var line = 1
        var first = 1
        var at = 0
        while (at <= text.length) {
            val c = text.getOrElse(at) { '\u0000' }
            val end = at == text.length
            when {
                quoted && !end -> if (c == '"') {
                    if (text.getOrElse(at + 1) { ' ' } == '"') field.append(text[at++]) else quoted = false
                } else {
                    field.append(c)
                }
                c == '"' && field.isEmpty() && !end -> {
                    quoted = true
                    begun = true
                }
                c == delimiter && !end -> {
                    row += field.toString()
                    field.clear()
                    begun = true
                }
                c == '\n' || c == '\r' || end -> {
                    if (begun || field.isNotEmpty()) {
                        row += field.toString()
                        yield(first to row)
                    }
                    row = ArrayList()
                    field.clear()
                    begun = false
                    first = line + if (c == '\n') 1 else 0
                }
                else -> field.append(c)
            }
            if (c == '\n' && !end) line++
            at++
        }
    }
}
