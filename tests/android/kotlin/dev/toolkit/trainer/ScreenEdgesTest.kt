package dev.toolkit.trainer

import android.graphics.Insets
import android.view.View
import android.view.ViewGroup
import android.view.WindowInsets
import android.widget.ScrollView
import dev.toolkit.trainer.Fixtures.await
import dev.toolkit.trainer.Pictures.text
import dev.toolkit.trainer.ui.MainActivity
import dev.toolkit.trainer.ui.NewRunActivity
import dev.toolkit.trainer.ui.SettingsActivity
import dev.toolkit.trainer.ui.TextActivity
import dev.toolkit.trainer.ui.WelcomeActivity
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment

/** What the system lays over the edges of a screen covers nothing that one needs. */
@RunWith(RobolectricTestRunner::class)
class ScreenEdgesTest {
    @get:Rule val temporary = TemporaryFolder()

    @Test
    fun `the bars of the system cover nothing`() {
        Fixtures.deploy(temporary)
        val bars = WindowInsets.Builder().setInsets(WindowInsets.Type.systemBars(), Insets.of(0, 48, 0, 96)).build()
        for (type in listOf(MainActivity::class, NewRunActivity::class, TextActivity::class, SettingsActivity::class, WelcomeActivity::class)) {
            val screen = Robolectric.buildActivity(type.java).setup().get()
            val root = screen.requireViewById<ViewGroup>(android.R.id.content).getChildAt(0)
            val height = root.height
            root.dispatchApplyWindowInsets(bars)
            assertEquals("$type", listOf(48, 0), listOf(root.paddingTop, root.paddingBottom))
            root.measure(exactly(root.width), exactly(height))
            root.layout(0, 0, root.width, height)
            val scroll = screen.requireViewById<ScrollView>(R.id.scroll)
            val bar = if (scroll.tag == "bottom") scroll else (scroll.parent as ViewGroup).run { getChildAt(childCount - 1) }
            assertEquals("$type: to the edge", height, bottom(bar))
            assertTrue("$type: what is in it stays clear of the system's bar", bar.paddingBottom >= 96)
            assertFalse("$type: and can be seen below it", (bar as? ScrollView)?.clipToPadding ?: false)
            scroll.scrollTo(0, 1_000_000)
            assertTrue("$type", bottom(scroll.getChildAt(0)) <= height - 96)
        }
    }

    @Test
    fun `the keyboard does not cover the field that is typed into`() {
        RuntimeEnvironment.setQualifiers("w400dp-h800dp") // where a keyboard leaves a form some lines
        val app = Fixtures.deploy(temporary)
        val keyboard = WindowInsets.Builder().setInsets(WindowInsets.Type.systemBars(), Insets.of(0, 48, 0, 96))
            .setInsets(WindowInsets.Type.ime(), Insets.of(0, 0, 0, 300)).build()
        val screen = Robolectric.buildActivity(NewRunActivity::class.java, NewRunActivity.intent(app, "tiny", "rows")).setup().get()
        await("the form, with what comes later") { text(screen, "of storage") }
        screen.requireViewById<View>(R.id.expert).performClick()
        val root = screen.requireViewById<ViewGroup>(android.R.id.content).getChildAt(0)
        val height = root.height
        screen.requireViewById<ScrollView>(R.id.scroll).isSmoothScrollingEnabled = false // nothing draws here
        val layOut = {
            root.measure(exactly(root.width), exactly(height))
            root.layout(0, 0, root.width, height)
            Fixtures.advance(1000)
        }
        layOut()
        for (id in listOf(R.id.steps, R.id.accumulation, R.id.name)) {
            root.dispatchApplyWindowInsets(WindowInsets.Builder().build())
            layOut()
            val field = screen.requireViewById<View>(id)
            field.requestFocus()
            // At the edge of what is seen, where a keyboard comes first.
            screen.requireViewById<ScrollView>(R.id.scroll).run { scrollBy(0, bottom(field) - bottom(this) + paddingBottom) }
            root.dispatchApplyWindowInsets(keyboard)
            layOut()
            assertTrue("${bottom(field)} of $height", bottom(field) <= height - 300)
        }
    }

    private fun exactly(size: Int) = View.MeasureSpec.makeMeasureSpec(size, View.MeasureSpec.EXACTLY)

    /** In the window. */
    private fun bottom(view: View): Int = IntArray(2).also(view::getLocationInWindow)[1] + view.height
}
