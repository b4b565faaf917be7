package dev.toolkit.trainer

import android.app.Activity
import android.app.Dialog
import android.content.Intent
import android.content.res.Configuration
import android.graphics.Bitmap
import android.graphics.Canvas
import android.view.View
import android.view.ViewGroup
import android.widget.AbsSeekBar
import android.widget.Button
import android.widget.EditText
import android.widget.ImageButton
import android.widget.ScrollView
import android.widget.Spinner
import android.widget.Switch
import android.widget.TextView
import dev.toolkit.trainer.Fixtures.await
import dev.toolkit.trainer.ui.ChartView
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNotNull
import org.junit.Assert.assertTrue
import org.robolectric.Robolectric
import org.robolectric.RuntimeEnvironment
import java.io.File
import java.util.Locale

/** How a screen is looked at. */
data class Look(val name: String, val qualifiers: String, val fontScale: Float)

/** Takes pictures of screens, and checks on them what can be checked without eyes. */
object Pictures {
    private val target = File(System.getProperty("toolkit.screenshots")!!)

    val looks = listOf(
        Look("phone-light", "w360dp-h640dp-notnight-xhdpi", 1f),
        Look("phone-dark", "w360dp-h640dp-night-xhdpi", 1f),
        Look("tablet-light", "w800dp-h1280dp-notnight-mdpi", 1f),
        Look("tablet-dark", "w800dp-h1280dp-night-mdpi", 1f),
        Look("phone-large-font", "w360dp-h640dp-notnight-xhdpi", 2f),
    )

    /** Another language, and one that runs from right to left (with English words, for want of others). */
    val languages = listOf(
        Look("phone-german-dark", "de-w360dp-h640dp-night-xhdpi", 1f),
        Look("phone-german-large-font", "de-w360dp-h640dp-notnight-xhdpi", 2f),
        Look("phone-from-right", "ar-ldrtl-w360dp-h640dp-notnight-xhdpi", 1f),
    )

    /** A phone and a tablet that lie on their sides. */
    val turned = listOf(
        Look("phone-turned-light", "w640dp-h360dp-land-notnight-xhdpi", 1f),
        Look("tablet-turned-dark", "w1280dp-h800dp-land-night-mdpi", 1f),
    )

    fun apply(look: Look) {
        RuntimeEnvironment.setQualifiers(look.qualifiers)
        RuntimeEnvironment.setFontScale(look.fontScale)
        // As the system does it: numbers are written by it.
        Locale.setDefault(RuntimeEnvironment.getApplication().resources.configuration.locales[0])
    }

    /** Opens a screen, waits until it is [ready], and takes it from its top and from its end. */
    fun take(
        look: Look, name: String, screen: Class<out Activity>, intent: Intent?,
        act: (Activity) -> Unit = {}, ready: (View) -> Boolean,
    ) {
        val controller = Robolectric.buildActivity(screen, intent).setup()
        val root = controller.get().window.decorView
        await("$name ${look.name}") { ready(root) }
        act(controller.get())
        Fixtures.idle()
        val scroll = find(root, ScrollView::class.java).firstOrNull()
        // A view that took the focus is still being scrolled to, and drawing is what moves it.
        draw(root)
        Fixtures.advance(1000)
        draw(root)
        scroll?.scrollTo(0, 0)
        save(root, "$name-${look.name}")
        check(look, name, root)
        if (scroll != null && scroll.canScrollVertically(1)) {
            scroll.scrollTo(0, Int.MAX_VALUE / 2)
            Fixtures.idle()
            save(root, "$name-${look.name}-end")
        }
        controller.close()
    }

    /** Takes an open dialog. */
    fun take(look: Look, name: String, dialog: Dialog) {
        Fixtures.idle()
        val root = dialog.window!!.decorView
        save(root, "$name-${look.name}")
        check(look, name, root)
    }

    fun text(root: View, words: String): Boolean = all(root).any { it is TextView && it.isShown && words in it.text.toString() }

    fun views(screen: Activity): List<View> = all(screen.window.decorView)

    fun text(screen: Activity, words: String): Boolean = text(screen.window.decorView, words)

    private fun draw(root: View): Bitmap =
        Bitmap.createBitmap(root.width, root.height, Bitmap.Config.ARGB_8888).also { root.draw(Canvas(it)) }

    private fun save(root: View, name: String) {
        val bitmap = draw(root)
        target.mkdirs()
        File(target, "$name.png").outputStream().use { bitmap.compress(Bitmap.CompressFormat.PNG, 100, it) }
    }

    /** What a designer and TalkBack would object to, as far as it can be computed. */
    private fun check(look: Look, screen: String, root: View) {
        val touch = (48 * root.resources.displayMetrics.density).toInt()
        for (view in all(root).filter { it.isShown && it.width > 0 }) {
            val where = "$screen ${look.name}: ${describe(view)}"
            if (isTouched(view)) assertTrue("$where is ${view.width} x ${view.height}", view.height >= touch && view.width >= touch)
            if (view is ImageButton || view is ChartView) assertFalse("$where says nothing", view.contentDescription.isNullOrEmpty())
            if (view is EditText || view is Spinner || view is AbsSeekBar) assertTrue("$where has no label", isLabelled(root, view))
            if (view is TextView && view.text.isNotEmpty() && view !is EditText) checkFits(where, view)
        }
        assertEquals(look.fontScale, root.resources.configuration.fontScale, 0.01f)
        val night = root.resources.configuration.uiMode and Configuration.UI_MODE_NIGHT_MASK
        assertEquals("dark" in look.name, night == Configuration.UI_MODE_NIGHT_YES)
        assertTrue(find(root, Switch::class.java).all { it.text.isNotEmpty() })
    }

    private fun isTouched(view: View) =
        view is AbsSeekBar || view.isClickable && (view is Button || view is ImageButton || view is Spinner || view is EditText || view is ViewGroup)

    private fun isLabelled(root: View, view: View) =
        !view.contentDescription.isNullOrEmpty() || all(root).any { it.labelFor == view.id && view.id != View.NO_ID }

    private fun checkFits(where: String, view: TextView) {
        val layout = view.layout
        assertNotNull(where, layout)
        assertFalse("$where is cut off", (0 until layout.lineCount).any { layout.getEllipsisCount(it) > 0 })
        assertTrue("$where does not fit", layout.height + view.compoundPaddingTop + view.compoundPaddingBottom <= view.height + 1)
        for (line in 0 until layout.lineCount - 1) {
            val end = layout.getLineEnd(line)
            val broken = view.text[end - 1].isLetter() && view.text[end].isLetter()
            // Paths and commands may break anywhere, words may not.
            val word = view.text.substring(0, end).takeLastWhile { !it.isWhitespace() }
            assertFalse("$where breaks a word after “$word”", broken && word.all(Char::isLetter))
        }
    }

    private fun describe(view: View): String {
        val id = if (view.id > 0) runCatching { view.resources.getResourceEntryName(view.id) }.getOrDefault("?") else "?"
        return "${view.javaClass.simpleName} $id" + if (view is TextView) " “${view.text.take(30)}”" else ""
    }

    private fun all(view: View): List<View> =
        if (view is ViewGroup) listOf(view) + (0 until view.childCount).flatMap { all(view.getChildAt(it)) } else listOf(view)

    private fun <T : View> find(root: View, type: Class<T>): List<T> = all(root).filterIsInstance(type)
}
